"""The folder: what it tells by itself, what is written of labels, and that nothing is lost."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import cocoop
from cocoop import CocoopError, UsageError
from cocoop.data.own.names import read_names
from cocoop.data.own.source import open_source
from cocoop.deploy.studio.folder import Folder, cell
from cocoop.deploy.studio.names import Name, clean, named
from cocoop.deploy.studio.opening import open_folder

ODD = ["a,b", 'say "x"', "=SUM(A1)", "<b>bold</b>", "ein Bär", "two  blanks", "猫", "don't", "-", "a;b"]


def write(root: Path, *names: str) -> Path:
    """Write a small image under each name."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number * 20 % 256, 90, 30)).save(root / name)
    return root


def labelled(folder: Folder) -> dict[str, str]:
    return {path: text for path, text in zip(folder.paths, folder.texts(), strict=True) if text is not None}


def test_labels_are_a_table_that_fit_reads_and_come_back(tmp_path: Path) -> None:
    folder = open_folder(write(tmp_path, *(f"{n}.png" for n in range(8))))
    folder.label({0: "cat", 1: "cat", 2: "cat"})
    folder.label({3: "dog, big", 4: "dog, big", 5: None})
    rows = ["path,label", "0.png,cat", "1.png,cat", "2.png,cat", '3.png,"dog, big"', '4.png,"dog, big"']
    assert (tmp_path / "labels.csv").read_text().splitlines() == rows
    data = open_source(str(tmp_path / "labels.csv"))
    assert data.class_names == ("cat", "dog, big")
    assert sum(map(len, data.splits.values())) == 5
    again = open_folder(tmp_path)
    assert (again.names, again.notes) == (folder.names, [])
    np.testing.assert_array_equal(again.labels, folder.labels)


def test_names_keep_their_order_and_phrases_also_without_images(tmp_path: Path) -> None:
    folder = open_folder(write(tmp_path, "a.png", "b.png"))
    names = [named("zebra", ["striped horse", "Zebra crossing"]), named("ant"), named("m")]
    folder.rename([(each, None) for each in names])
    assert read_names(tmp_path / "names.json")["zebra"] == ("zebra", "striped horse", "Zebra crossing")
    folder.label({0: "ant", 1: "m"})
    assert open_folder(tmp_path).names == tuple(names)
    data = open_source(str(tmp_path / "labels.csv"), tmp_path / "names.json")
    assert data.class_names == ("ant", "m")


@pytest.mark.parametrize("name", ODD)
def test_odd_names_come_back(tmp_path: Path, name: str) -> None:
    folder = open_folder(write(tmp_path, "a.png", "b.png", "c.png"))
    folder.label({0: name, 1: name, 2: "other"})
    again = open_folder(tmp_path)
    assert again.texts().tolist() == [clean(name)] * 2 + ["other"]
    assert not (tmp_path / "labels.csv.before").exists()
    assert clean(name) in open_source(str(tmp_path / "labels.csv")).class_names


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=4))
@settings(max_examples=100)
def test_any_cell_is_read_as_it_was_written(texts: list[str]) -> None:
    row = ["first", *texts]
    text = ",".join(map(cell, row)) + "\nnext,row\n"
    assert list(csv.reader(io.StringIO(text, newline=""))) == [row, ["next", "row"]]


def test_paths_with_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    names = ['a,"b".png', "x\ny.png", " .png", "é.png", "sub/deep/er.png"]
    folder = open_folder(write(tmp_path, *names))
    folder.label(dict.fromkeys(range(len(names)), "thing"))
    assert set(labelled(open_folder(tmp_path))) == set(names)


@pytest.mark.parametrize("name", ["", "  ", "_", "a\x1bb", "\u202eabc", "x" * 201])
def test_what_cannot_be_a_name(tmp_path: Path, name: str) -> None:
    folder = open_folder(write(tmp_path, "a.png"))
    with pytest.raises(UsageError):
        folder.label({0: name})
    assert folder.texts().tolist() == [None]
    assert not (tmp_path / "labels.csv").exists()


def test_names_that_are_one_to_clip_are_refused(tmp_path: Path) -> None:
    folder = open_folder(write(tmp_path, "a.png"))
    folder.label({0: "red apple"})
    with pytest.raises(UsageError, match="one name to CLIP"):
        folder.label({0: "Red_Apple"})
    assert folder.words() == ["red apple"]


def test_a_rename_takes_images_along_and_a_removal_does_not(tmp_path: Path) -> None:
    folder = open_folder(write(tmp_path, "a.png", "b.png", "c.png"))
    folder.label({0: "a", 1: "b", 2: "c"})
    folder.rename([(Name("c"), None), (Name("alpha"), "a")])
    assert folder.texts().tolist() == ["alpha", None, "c"]
    folder.undo()
    assert folder.texts().tolist() == ["a", "b", "c"]
    assert folder.words() == ["a", "b", "c"]
    folder.rename([(Name("b"), "a"), (Name("a"), "b"), (Name("c"), None)])  # two change places
    assert folder.texts().tolist() == ["b", "a", "c"]
    folder.rename([(Name("x"), "a"), (Name("y"), None)])
    assert labelled(open_folder(tmp_path)) == {"b.png": "x"}


def test_every_step_can_be_taken_back_and_done_again(tmp_path: Path) -> None:
    folder = open_folder(write(tmp_path, "a.png", "b.png"))
    states = [labelled(folder)]
    for marks in ({0: "x"}, {1: "y"}, {0: "y"}, {0: None, 1: None}):
        folder.label(marks)
        states.append(labelled(folder))
    folder.label({0: None})  # changes nothing, and is no step
    for before in reversed(states[:-1]):
        folder.undo()
        assert labelled(folder) == before
        assert labelled(open_folder(tmp_path)) == before
    with pytest.raises(UsageError, match="nothing to undo"):
        folder.undo()
    for after in states[1:]:
        folder.redo()
        assert labelled(folder) == after
    with pytest.raises(UsageError, match="nothing to do again"):
        folder.redo()
    folder.undo()
    folder.label({0: "new"})
    assert not folder.undone


def test_steps_are_taken_back_past_images_that_came_since(tmp_path: Path) -> None:
    folder = open_folder(write(tmp_path, "a.png"))
    folder.label({0: "x"})
    write(tmp_path, "b.png")
    folder.add(tmp_path / "b.png")
    folder.label({1: "y"})
    for expected in ([(0, "x")], []):
        folder.undo()
        assert [(i, t) for i, t in enumerate(folder.texts()) if t] == expected
    folder.redo()
    folder.redo()
    assert folder.texts().tolist() == ["x", "y"]


def test_class_folders_bring_their_labels_and_nothing_is_written_yet(tmp_path: Path) -> None:
    folder = open_folder(write(tmp_path, "cat/1.png", "cat/2.png", "dog/1.png", "loose.png"))
    assert labelled(folder) == {"cat/1.png": "cat", "cat/2.png": "cat", "dog/1.png": "dog"}
    assert any("loose.png" in note for note in folder.notes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat", "dog", "loose.png"]
    folder.label({folder.paths.index("loose.png"): "dog"})
    assert len(labelled(open_folder(tmp_path))) == 4


def test_a_table_of_another_tool_is_read_and_kept(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png", "c.png")
    other = "file,species,split\na.png,cat,train\nb.png,dog,train\n".replace("species", "class")
    (tmp_path / "labels.csv").write_text(other)
    folder = open_folder(tmp_path)
    assert labelled(folder) == {"a.png": "cat", "b.png": "dog"}
    assert (tmp_path / "labels.csv").read_text() == other
    folder.label({2: "dog"})
    assert (tmp_path / "labels.csv.before").read_text() == other
    assert (tmp_path / "labels.csv").read_text() == "path,label\na.png,cat\nb.png,dog\nc.png,dog\n"


@pytest.mark.parametrize("damage", ["path,label\na.png", "\xff\xfe\x00", "path,label\na.png,cat,more\n"])
def test_a_damaged_table_is_said_and_kept(tmp_path: Path, damage: str) -> None:
    write(tmp_path, "a.png", "b.png")
    (tmp_path / "labels.csv").write_text(damage, encoding="latin-1")
    folder = open_folder(tmp_path)
    assert folder.notes
    folder.label({0: "cat"})
    assert (tmp_path / "labels.csv.before").read_text(encoding="latin-1") == damage


def test_labels_of_images_that_are_gone_are_said_and_kept(tmp_path: Path) -> None:
    folder = open_folder(write(tmp_path, "a.png", "b.png", "c.png"))
    folder.label({0: "x", 1: "y", 2: "y"})
    table = (tmp_path / "labels.csv").read_text()
    (tmp_path / "b.png").unlink()
    folder = open_folder(tmp_path)
    assert "b.png" in folder.notes[0]
    folder.label({0: "z"})
    assert (tmp_path / "labels.csv.before").read_text() == table
    (tmp_path / "c.png").unlink()
    folder = open_folder(tmp_path)
    folder.label({0: "q"})
    assert (tmp_path / "labels.csv.before2").exists()


def test_a_table_that_was_edited_meanwhile_is_kept(tmp_path: Path) -> None:
    folder = open_folder(write(tmp_path, "a.png", "b.png"))
    folder.label({0: "x"})
    folder.label({1: "y"})
    assert not (tmp_path / "labels.csv.before").exists()
    edited = "path,label\na.png,by hand\n"
    (tmp_path / "labels.csv").write_text(edited)
    folder.label({1: "z"})
    assert (tmp_path / "labels.csv.before").read_text() == edited
    assert (tmp_path / "labels.csv").read_text() == "path,label\na.png,x\nb.png,z\n"
    (tmp_path / "labels.csv").unlink()
    folder.rename([(each, None) for each in folder.names])  # changes nothing
    folder.write()
    assert labelled(open_folder(tmp_path)) == {"a.png": "x", "b.png": "z"}


def test_names_that_differ_in_case_alone_are_one(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "labels.csv").write_text("path,label\na.png,Red apple\nb.png,red_apple\nc.png,pear\n")
    folder = open_folder(tmp_path)
    assert folder.texts().tolist() == ["Red apple", "Red apple", "pear"]


def test_a_folder_that_cannot_be_written_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = open_folder(write(tmp_path, "a.png", "b.png"))
    folder.label({0: "x"})

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cocoop.deploy.studio.folder.write_bytes", full)
    with pytest.raises(CocoopError, match=r"No space left.*nothing was changed"):
        folder.label({1: "y"})
    with pytest.raises(CocoopError, match="No space"):
        folder.undo()
    assert folder.texts().tolist() == ["x", None]
    assert (folder.words(), len(folder.done)) == (["x"], 1)
    monkeypatch.undo()
    folder.undo()
    assert folder.texts().tolist() == [None, None]


def test_a_read_only_folder_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.png")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    folder = open_folder(tmp_path)
    with pytest.raises(CocoopError, match="is read-only"):
        folder.label({0: "x"})


def test_an_empty_folder_and_one_that_is_none(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    assert (folder.ids, folder.notes, folder.texts().tolist()) == ([], [], [])
    with pytest.raises(CocoopError):
        open_folder(tmp_path / "missing")


def test_ids_are_of_one_state_of_a_file(tmp_path: Path) -> None:
    folder = open_folder(write(tmp_path, "a.png", "b.png"))
    assert len(set(folder.ids)) == 2
    assert open_folder(tmp_path).ids == folder.ids
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    again = open_folder(tmp_path)
    assert again.ids[0] != folder.ids[0]
    assert again.ids[1] == folder.ids[1]


KILLED = """
import sys
from pathlib import Path
from cocoop.deploy.studio.opening import open_folder
folder = open_folder(Path(sys.argv[1]))
for step in range(10**6):
    folder.label({step % len(folder.ids): f"name {step % 7}"})
    print(step, flush=True)
"""


def test_a_kill_loses_no_label_that_was_acknowledged(tmp_path: Path) -> None:
    write(tmp_path, *(f"{n}.png" for n in range(30)))
    count = len(open_folder(tmp_path).ids)
    source = str(Path(cocoop.__file__).parents[1])
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": source}) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.4)
        child.send_signal(signal.SIGKILL)
        last = int(child.stdout.read().splitlines()[-1])
    texts = open_folder(tmp_path).texts()
    for step in range(max(0, last - count + 1), last + 1):
        if step + count > last + 1:  # a step behind the last that was said may have been written too
            assert texts[step % count] == f"name {step % 7}"
    assert not list(tmp_path.glob(".labels.csv.*"))
    assert json.loads((tmp_path / "names.json").read_text())
