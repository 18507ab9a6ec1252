"""Answers by the million: every image of every kind of piece once, and what is missing is made up for."""

import io
import tarfile
from collections import Counter
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cocoop import CoCoOp, UsageError
from cocoop.data import shards
from cocoop.data.shards import find_shards
from cocoop.errors import CocoopError
from cocoop.estimator import many
from cocoop.estimator.many import Job, run_here

NAMES = ("red square", "blue square")


def png(index: int) -> bytes:
    """An image of its own for every index."""
    pixels = np.random.default_rng(index).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "model"
    images = [np.array(Image.open(io.BytesIO(png(index)))) for index in range(4)]
    CoCoOp("toy", epochs=1).fit(images, [NAMES[0], NAMES[1]] * 2).save(folder)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Eleven images, one of them damaged, in two archives, two tables and a folder."""
    folder = tmp_path / "source"
    (folder / "files" / "deep").mkdir(parents=True)
    tar(folder / "a.tar", {"0.png": png(0), "0.cls": b"1", "1.png": png(1), "broken.jpg": b"not an image"})
    tar(folder / "b.tar.gz", {"x/2.png": png(2)})
    pq.write_table(pa.table({"label": [0, 1], "jpg": [png(3), png(4)]}), folder / "c.parquet")
    hub = [{"bytes": png(5), "path": "5.png"}, {"bytes": None, "path": "6.png"}]
    pq.write_table(pa.table({"image": hub, "thumbnail": [b"", b""]}), folder / "d.parquet")
    for index in (7, 8, 9):
        (folder / "files" / "deep" / f"{index}.png").write_bytes(png(index))
    (folder / "files" / "notes.txt").write_text("no image")
    return folder


def rows(out: Path) -> dict[str, dict]:
    files = sorted(out.glob("part-*.parquet"))
    listed = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert not [path for path, count in Counter(row["path"] for row in listed).items() if count > 1]
    return {row["path"]: row for row in listed}


def test_every_image_is_answered_once_as_the_classifier_answers(
    model: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cocoop import load

    monkeypatch.setattr(shards, "FILES", 2)
    job, out, seen = Job(model, top_k=2, options={"testing": "exact"}), tmp_path / "out", []
    pieces = find_shards([str(source)])
    assert len(pieces) == 6
    assert not run_here(job, pieces, out, lambda images, errors: seen.append((images, errors)))
    assert seen == [(3, 1), (1, 0), (2, 0), (2, 1), (2, 0), (1, 0)]
    answers = rows(out)
    known = {f"{source}/a.tar/0.png": 0, f"{source}/a.tar/1.png": 1, f"{source}/b.tar.gz/x/2.png": 2}
    known |= {f"{source}/c.parquet#0": 3, f"{source}/c.parquet#1": 4, f"{source}/d.parquet#0": 5}
    known |= {f"{source}/files/deep/{index}.png": index for index in (7, 8, 9)}
    broken = {f"{source}/a.tar/broken.jpg": "no image", f"{source}/d.parquet#1": "no bytes"}
    assert answers.keys() == known.keys() | broken.keys()
    for path, words in broken.items():
        assert words in answers[path]["error"]
        assert answers[path]["name"] is answers[path]["names"] is None
    classifier = load(model)
    for path, index in known.items():
        chances = classifier.predict_proba([Image.open(io.BytesIO(png(index)))])[0]
        best = np.argsort(-chances)
        assert answers[path]["names"] == [str(classifier.classes_[place]) for place in best]
        np.testing.assert_allclose(answers[path]["probabilities"], chances[best], rtol=1e-3, atol=1e-7)
        assert answers[path]["error"] is None


@pytest.mark.parametrize("testing", ["exact", "linear", "auto"])
def test_a_file_says_how_its_answers_were_computed(
    model: Path, source: Path, tmp_path: Path, testing: str
) -> None:
    (piece,) = find_shards([str(source / "c.parquet")])
    run_here(Job(model, options={"testing": testing}), [piece], tmp_path / "out")
    said = pq.read_schema(many.place(tmp_path / "out", 0)).metadata[b"testing"].decode()
    assert said == testing if testing != "auto" else said in ("exact", "screened")


def test_what_is_missing_is_worked_at_alone(model: Path, source: Path, tmp_path: Path) -> None:
    job, out, pieces = Job(model), tmp_path / "out", find_shards([str(source)])
    run_here(job, pieces, out)
    before, stamps = rows(out), {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    many.place(out, 2).unlink()
    seen = []
    run_here(job, pieces, out, lambda images, errors: seen.append(images))
    assert seen == [2]
    assert rows(out) == before
    after = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert [name for name in stamps if stamps[name] != after[name]] == ["part-000002.parquet"]


@pytest.mark.parametrize(
    ("change", "named"),
    [({"top_k": 1}, "top_k"), ({"classes": ("a", "b")}, "classes"), ({"options": {"x": 1}}, "options")],
)
def test_other_answers_are_not_mixed_in(
    model: Path, source: Path, tmp_path: Path, change: dict, named: str
) -> None:
    pieces = find_shards([str(source)])
    run_here(Job(model), pieces, tmp_path / "out")
    with pytest.raises(UsageError, match=f"another {named}"):
        run_here(Job(model, **change), pieces, tmp_path / "out")


def test_a_source_that_changed_and_a_folder_of_something_else(
    model: Path, source: Path, tmp_path: Path
) -> None:
    run_here(Job(model), find_shards([str(source)]), tmp_path / "out")
    tar(source / "b.tar.gz", {"other.png": png(10), "more.png": png(11)})
    with pytest.raises(UsageError, match="another source"):
        run_here(Job(model), find_shards([str(source)]), tmp_path / "out")
    with pytest.raises(UsageError, match="something else than answers"):
        run_here(Job(model), find_shards([str(source)]), source)


def test_a_damaged_archive_fails_alone_and_is_named(model: Path, source: Path, tmp_path: Path) -> None:
    (source / "a.tar").write_bytes((source / "a.tar").read_bytes()[:700])
    failed = run_here(Job(model), find_shards([str(source)]), tmp_path / "out")
    assert list(failed) == [f"{source}/a.tar"]
    assert "cannot be read" in failed[f"{source}/a.tar"]
    assert not many.place(tmp_path / "out", 0).exists()
    assert len(rows(tmp_path / "out")) == 8


def test_features_through_a_store_of_objects(tmp_path: Path) -> None:
    from cocoop import load_backbone

    store = fsspec.filesystem("memory")
    for index in range(3):
        store.pipe(f"/photos-of-many/{index}.png", png(index))
    out = tmp_path / "out"
    run_here(Job(None, "toy"), find_shards(["memory://photos-of-many/*.png"]), out)
    answers = rows(out)
    assert sorted(answers) == [f"memory:///photos-of-many/{index}.png" for index in range(3)]
    clip = load_backbone("toy")
    pixels = clip.preprocess.test(Image.open(io.BytesIO(png(1))))[None]
    expected = clip.encode_image(pixels)[0]
    expected /= expected.norm()
    np.testing.assert_allclose(
        answers["memory:///photos-of-many/1.png"]["feature"], expected, rtol=1e-4, atol=1e-6
    )
    store.rm("/photos-of-many", recursive=True)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no images, \.tar or \.parquet files at"):
        find_shards([str(tmp_path)])
    with pytest.raises(UsageError, match="no images"):
        find_shards([str(tmp_path / "nowhere")])
    with pytest.raises(CocoopError, match="cannot be reached"):
        find_shards(["nosuchstore://bucket/photos"])
    pq.write_table(pa.table({"a": [b"1"], "b": [b"2"]}), tmp_path / "two.parquet")
    (piece,) = find_shards([str(tmp_path / "two.parquet")])
    with pytest.raises(CocoopError, match=r"2 columns of bytes \(a, b\)"):
        list(piece.images())
