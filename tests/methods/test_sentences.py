"""Sentences about classes: which names they are found by, and what is no file of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import cocoop
from cocoop import CocoopError, UsageError
from cocoop.cli import main
from cocoop.experiments.store import Store
from cocoop.methods._sentences import FORMAT, pinned_source, read_sentences
from tests.refusals import ACTIVE, FUZZ, refusal


def written(folder: Path, content: Any) -> str:
    """A file of sentences as a setting; bytes and text are written as they are."""
    path = folder / "sentences.json"
    data = content if isinstance(content, bytes | str) else json.dumps(content)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return pinned_source(str(path))


def read(folder: Path, content: Any, names: list[str]) -> list[list[str]]:
    return read_sentences(written(folder, content), names, "cupl")


def test_names_are_found_as_they_stand_then_with_blanks_then_in_small_letters(tmp_path: Path) -> None:
    content = {"Red_Apple": ["one"], "Dog house": ["two"], "dog": ["3", "4"], "Dog": ["5"], "spare": ["6"]}
    names = ["red apple", "dog_house", "dog", "Dog", "Red_Apple", "dog"]
    assert read(tmp_path, content, names) == [["one"], ["two"], ["3", "4"], ["5"], ["one"], ["3", "4"]]


def test_names_that_may_be_two_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"about 'DOG' may be those of 'dog', 'Dog'; keep one"):
        read(tmp_path, {"dog": ["a"], "Dog": ["b"]}, ["DOG"])


def test_classes_without_sentences_are_all_named(tmp_path: Path) -> None:
    content = {"colour": ["a"], "dog": ["b"]}
    with pytest.raises(UsageError) as error:
        read(tmp_path, content, ["dog", "color", *(f"thing {place}" for place in range(8))])
    said = str(error.value)
    assert (
        f"{tmp_path / 'sentences.json'} has no sentences about 9 of the classes: 'color', 'thing 0'" in said
    )
    assert "and 4 more. It has some about 'colour'." in said
    assert said.endswith(f"Give them as {FORMAT}: --set cupl.sentences=FILE")


def test_a_file_about_other_things_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has sentences about none of the 2 classes, such as 'cat', 'cow'"):
        read(tmp_path, {"violin": ["a"]}, ["cat", "cow"])
    with pytest.raises(UsageError, match="the embedded file has sentences about none of the 1 classes"):
        read_sentences("embedded", ["a class of nobody"], "cupl")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "Expecting value"),
        ("[1, 2]", "valid dictionary"),
        ('{"dog": "a dog."}', "'dog': Input should be a valid list"),
        ('{"dog": []}', "'dog': List should have at least 1 item"),
        ('{"dog": ["a", 3]}', "sentence 2 of 'dog': Input should be a valid string"),
        ('{"dog": ["a", " "]}', "sentence 2 of 'dog': .*it is empty"),
        ('{"dog": ["a\\u0000"]}', "sentence 1 of 'dog': .*no text"),
        ('{"dog": ["a\\ud800"]}', "no text"),
        ('{"dog": ["a"], "dog": ["b"]}', "'dog' stands there twice"),
        (b'{"dog": ["\xff"]}', "utf-8"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_what_is_no_file_of_sentences(content: Any, problem: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"is not a JSON file .*{problem}"):
        read(tmp_path, content, ["dog"])


def test_a_mark_of_the_byte_order_and_line_breaks_are_read(tmp_path: Path) -> None:
    assert read(tmp_path, b'\xef\xbb\xbf{"dog": ["a\\n dog."]}', ["dog"]) == [["a\n dog."]]


def test_large_and_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = written(tmp_path, {"dog": ["a"]})
    monkeypatch.setattr("cocoop.methods._sentences.LARGEST", 4)
    with pytest.raises(UsageError, match="more than 4 bytes"):
        read_sentences(source, ["dog"], "cupl")
    (tmp_path / "sentences.json").unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        read_sentences(source, ["dog"], "cupl")
    with pytest.raises(UsageError, match="there is no file"):
        pinned_source(str(tmp_path))


def test_a_file_that_was_changed_since_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path, {"dog": ["a"]})
    assert pinned_source(source) == source
    written(tmp_path, {"dog": ["b"]})
    with pytest.raises(CocoopError, match="changed since"):
        read_sentences(source, ["dog"], "cupl")


@FUZZ
@given(st.dictionaries(st.text(max_size=9), st.lists(st.text(max_size=9), max_size=3), max_size=3), st.text())
@example({ACTIVE: ["a"]}, ACTIVE)
@example({"": ["a"]}, "")
def test_any_file_is_read_or_refused(tmp_path: Path, content: dict[str, list[str]], name: str) -> None:
    refusal(lambda: read(tmp_path, content, [name, *content]), UsageError)


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["run", *words])
    return int(ended.value.code or 0)


def test_in_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Embedded sentences and a file's; seeds differ where something is learned or drawn."""
    folder, file = tmp_path / "runs", tmp_path / "food.json"
    names = cocoop.open_dataset("emoji/food").class_names
    file.write_text(json.dumps({name: [f"a {name}", f"one {name} drawn"] for name in names}))
    methods = "--methods cupl,dclip,waffleclip,protext --seeds 0,1 --backbone toy"
    words = f"base-to-new --datasets emoji/food {methods} --out {folder}".split()
    given = ["--set", f"dclip.sentences={file}", "--set", f"protext.sentences={file}"]
    quick = ["--set", "protext.epochs=2", "--set", "protext.batch_size=40"]
    assert run(*words, *given, *quick, "--dry-run") == 0
    assert "2 trainings, 8 steps, 352 text sequences" in capsys.readouterr().out
    assert run(*words, *given, *quick) == 0
    records = list(Store(folder).records())
    seeds: dict[str, set[int]] = {}
    for record in records:
        seeds.setdefault(record.cell.training.method, set()).add(record.cell.training.seed)
    assert seeds == {"zeroshot": {0}, "cupl": {0}, "dclip": {0}, "waffleclip": {0, 1}, "protext": {0, 1}}
    (learned, *_) = (record for record in records if record.cell.training.method == "protext")
    assert (learned.cell.training.shots, learned.cell.training.subset, learned.train_images) == (0, "base", 0)
    assert len(learned.loss) == 2
    assert "#sha256:" in learned.cell.training.config["sentences"]
    file.write_text("{}")
    assert run(*words, *given, *quick) == 2
    assert "has sentences about none of the" in capsys.readouterr().err
