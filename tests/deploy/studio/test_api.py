"""The studio over HTTP, as its page uses it: from a folder to suggestions, labels, a model and files."""

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import cocoop
from cocoop.cli.main import main
from cocoop.data.own.source import open_source
from cocoop.deploy.studio.asked import default_method, learnable
from cocoop.methods import METHODS, facts_of
from tests.deploy.studio.conftest import LIMITS, Client

Opened = Callable[..., Client]
COLOURS = {"r": "red", "g": "green", "b": "blue"}


def label_all(client: Client, *left_out: str) -> None:
    """Label every image by its colour, but for some."""
    marks = [
        {"id": item["id"], "name": COLOURS[item["path"][0]]}
        for item in client.items()
        if item["path"] not in left_out
    ]
    client.post("label", labels=marks)


def test_suggestions_are_those_of_zero_shot_clip(photos: Path, opened: Opened) -> None:
    client = opened(photos)
    names = ["red", "green", "violin"]
    client.names("red", {"name": "green", "phrases": ["grass", "leaf"]}, "violin")
    state = client.idle()
    zero = cocoop.ZeroShot("toy", device="cpu")
    expected = zero.predict_proba(
        sorted(photos.glob("*.png")), {"red": "red", "green": ["green", "grass", "leaf"], "violin": "violin"}
    )
    items = client.items()
    for item, row in zip(items, expected, strict=True):
        best = np.argsort(-row)
        assert [each["name"] for each in item["suggestion"]] == [names[place] for place in best]
        np.testing.assert_allclose([each["p"] for each in item["suggestion"]], row[best], rtol=1e-4)
        assert item["unsure"] == pytest.approx(1 - row[best[0]] + row[best[1]], rel=1e-3)
    assert state["suggestions"] == {"by": "zero-shot", "why": ""}
    counts = {each["name"]: each["suggested"] for each in state["names"]}
    assert counts == {name: sum(item["suggestion"][0]["name"] == name for item in items) for name in names}
    unsure = client.items(view="unsure")
    assert [item["unsure"] for item in unsure] == sorted((i["unsure"] for i in items), reverse=True)
    green = [i for i in items if i["suggestion"][0]["name"] == "green"]
    assert client.items(label="green") == green
    assert client.items(view="unlabelled", label="green") == sorted(
        green, key=lambda item: -item["suggestion"][0]["p"]
    )


def test_one_name_alone_is_suggested_for_nothing(photos: Path, opened: Opened) -> None:
    client = opened(photos)
    client.names("red")
    state = client.idle()
    assert state["suggestions"]["by"] == ""
    assert [item["suggestion"] for item in client.items()] == [[]] * 12
    assert (len(client.items(view="next")), state["counts"]["unsure"]) == (12, 0)


@pytest.mark.filterwarnings("ignore:.*was trained on English")  # the name says it too
def test_a_name_clip_cannot_read_is_marked_and_the_others_go_on(photos: Path, opened: Opened) -> None:
    client = opened(photos)
    client.names("red", "漢" * 30, "green", "漢")
    state = client.idle()
    assert [bool(each["problem"]) for each in state["names"]] == [False, True, False, True]
    assert "shorten" in state["names"][1]["problem"]
    assert "was trained on English" in state["names"][3]["problem"]
    assert {each["name"] for each in client.items()[0]["suggestion"]} == {"red", "green", "漢"}
    assert client.names("red", "green")["names"][0]["problem"] == ""


def test_groups_hold_every_image_once(photos: Path, opened: Opened) -> None:
    client = opened(photos)
    client.names("red", "green")
    state = client.idle()
    groups = client.get("groups")["groups"]
    assert sum(group["count"] for group in groups) == state["images"] == 12
    for group in groups:
        inside = {item["id"] for item in client.items(group=group["group"])}
        assert len(inside) == group["count"]
        assert set(group["ids"]) <= inside
    client.post("label", ids=groups[0]["ids"], name="red")
    after = client.get("groups")["groups"][0]
    assert after["unlabelled"] == after["count"] - len(groups[0]["ids"])


def test_labels_undo_and_what_has_changed(photos: Path, opened: Opened) -> None:
    client = opened(photos)
    one, two = client.ids("r0.png", "g0.png")
    state = client.post("label", ids=[one, two], name="thing")
    assert state["changed"] == [{"id": two, "label": "thing"}, {"id": one, "label": "thing"}]
    assert (state["labelled"], state["names"][0]["count"], state["undo"]) == (2, 2, "label 2 images as thing")
    state = client.post("label", labels=[{"id": one, "name": "a, b"}, {"id": two, "name": None}])
    assert state["changed"] == [{"id": two, "label": None}, {"id": one, "label": "a, b"}]
    assert [i["label"] for i in client.items(view="labelled")] == ["a, b"]
    assert client.post("undo")["changed"] == [{"id": two, "label": "thing"}, {"id": one, "label": "thing"}]
    assert client.post("redo")["can_redo"] is False
    assert "nothing to do again" in client.refused(422, "POST", "redo")
    listed = client.get("images", ids=f"{one},{two}")["items"]
    assert [(i["id"], i["label"]) for i in listed] == [(one, "a, b"), (two, None)]


def test_the_list_of_names_of_another_tab_is_kept(photos: Path, opened: Opened) -> None:
    client = opened(photos)
    (one,) = client.ids("r0.png")
    client.names("red")
    client.post("label", ids=[one], name="mine")  # by the other tab
    state = client.names("red", "green", known=["red"])
    assert [each["name"] for each in state["names"]] == ["red", "green", "mine"]
    state = client.names({"name": "scarlet", "was": "mine"}, "red", known=["red", "green", "mine"])
    assert [each["name"] for each in state["names"]] == ["scarlet", "red"]
    assert state["changed"] == [{"id": one, "label": "scarlet"}]
    assert client.names("red")["labelled"] == 0
    assert client.post("undo")["labelled"] == 1


def test_views_after_labels(photos: Path, opened: Opened) -> None:
    client = opened(photos)
    label_all(client, "r0.png", "g0.png")
    state = client.idle()
    paths = {view: [i["path"] for i in client.items(view=view)] for view in state["counts"]}
    assert {view: len(each) for view, each in paths.items()} == state["counts"]
    assert set(paths["unlabelled"]) == set(paths["next"]) == set(paths["unsure"]) == {"r0.png", "g0.png"}
    wrong = [i for i in client.items(view="labelled") if i["suggestion"][0]["name"] != i["label"]]
    assert set(paths["wrong"]) == {i["path"] for i in wrong}
    wrong = client.get("ids", view="wrong")
    assert wrong["ids"] == [i["id"] for i in client.items(view="wrong")]
    assert wrong["total"] == len(wrong["ids"])
    part = client.get("images", offset=3, count=2)
    assert [i["path"] for i in part["items"]] == paths["all"][3:5]
    assert (part["total"], part["offset"]) == (12, 3)


def test_a_model_beside_zero_shot_and_the_images_behind_the_confusion(photos: Path, opened: Opened) -> None:
    client = opened(photos)
    client.idle()
    assert client.get("state")["can_train"]
    assert "two names" in client.refused(409, "POST", "train")
    client.refused(404, "GET", "evaluation")
    label_all(client)
    client.post("train")
    state = client.idle()
    model, labels = state["model"], photos / "labels.csv"
    data = open_source(str(labels))
    assert (state["training"]["state"], state["can_train"]) == ("done", ""), state["training"]
    held = {item.path for item in data.items("test")}
    assert {i["path"] for i in client.items() if i["held_out"]} == held  # as `cocoop fit` holds out
    assert (model["images"], model["held_out"]) == (len(data.items("train")), len(held))
    assert model["classes"] == ["blue", "green", "red"]
    zero = cocoop.ZeroShot("toy", device="cpu")
    paths = [photos / item.path for item in data.items("test")]
    right = [item.name for item in data.items("test")] == zero.predict(paths, data.class_names)
    found = client.get("evaluation")
    assert found["zero_shot"]["correct"] == int(right.sum())
    assert model["correct"] == found["correct"] == np.trace(found["confusion"]["counts"])
    assert found["interval"][0] < found["accuracy"] <= found["interval"][1]
    for row, true in enumerate(found["confusion"]["names"]):
        for column, predicted in enumerate(found["confusion"]["names"]):
            behind = client.items(true=true, predicted=predicted)
            assert len(behind) == found["confusion"]["counts"][row][column]
            assert all(i["held_out"] and i["label"] == true for i in behind)
    assert state["suggestions"]["by"] == "model"
    client.refused(422, "GET", "images?true=red")


def test_a_corrected_label_counts_at_once_and_the_model_is_stale(photos: Path, opened: Opened) -> None:
    client = opened(photos)
    label_all(client)
    client.idle()
    client.post("train")
    before = client.idle()["model"]
    held = next(i for i in client.items() if i["held_out"])
    other = next(name for name in COLOURS.values() if name != held["label"])
    after = client.post("label", ids=[held["id"]], name=other)["model"]
    assert after["stale"]
    assert not before["stale"]
    assert after["held_out"] == before["held_out"]
    assert np.trace(client.get("evaluation")["confusion"]["counts"]) == after["correct"]
    assert client.post("label", ids=[held["id"]], name="new")["model"]["held_out"] == before["held_out"] - 1
    client.post("undo")
    assert not client.post("undo")["model"]["stale"]


def test_a_name_added_is_answered_without_retraining(photos: Path, opened: Opened) -> None:
    client = opened(photos)
    label_all(client)
    client.idle()
    client.post("train", method="coop", epochs=1)
    client.idle()
    state = client.names("red", "green", "blue", "violin")
    assert state["model"]["new_names"] == ["violin"]
    state = client.idle()
    assert (state["suggestions"]["by"], state["model"]["open"]) == ("model", True)
    model = client.studio.learned.model
    expected = model.predict_proba([photos / "b0.png"], ["red", "green", "blue", "violin"])[0]
    found = {each["name"]: each["p"] for each in client.items()[0]["suggestion"]}
    best = sorted(zip(["red", "green", "blue", "violin"], expected, strict=True), key=lambda pair: -pair[1])
    assert list(found) == [name for name, _ in best[:3]]
    assert list(found.values()) == pytest.approx([chance for _, chance in best[:3]], rel=1e-4)


def test_a_model_of_its_own_names_alone_leaves_further_ones_to_zero_shot(
    photos: Path, opened: Opened
) -> None:
    client = opened(photos)
    label_all(client)
    client.idle()
    client.post("train", method="taskres", epochs=1)
    assert client.idle()["suggestions"]["by"] == "model"
    client.names("red", "green", "blue", "violin")
    state = client.idle()
    assert state["suggestions"]["by"] == "zero-shot"
    assert "violin" in state["suggestions"]["why"]
    assert "violin" in client.refused(422, "POST", "try", names=["violin"], by="model")
    assert client.post("try", names=["violin", "red"])["by"] == "zero-shot"


def test_any_names_are_tried_and_nothing_is_kept(photos: Path, opened: Opened) -> None:
    client = opened(photos)
    client.idle()
    before = client.get("state")
    found = client.post("try", names=["a red thing=red|scarlet", "water"])
    assert found["by"] == "zero-shot"
    expected = cocoop.ZeroShot("toy", device="cpu").predict_proba(
        [photos / "b0.png"], {"a red thing": ["red", "scarlet"], "water": "water"}
    )[0]
    first = {each["name"]: each["p"] for each in found["items"][0]["names"]}
    assert [first["a red thing"], first["water"]] == pytest.approx(expected.tolist(), rel=1e-3)
    assert len(found["items"]) == 12
    (one,) = client.ids("g1.png")
    assert [i["id"] for i in client.post("try", names=["x"], ids=[one])["items"]] == [one]
    assert client.get("state") == before
    for names in ([], ["漢" * 30], [""], ["a="]):
        client.refused(422, "POST", "try", names=names)
    client.refused(422, "POST", "try", names=["x"] * 13)
    client.refused(409, "POST", "try", names=["x"], by="model")


def test_what_is_saved_is_of_use_elsewhere(
    photos: Path, opened: Opened, capsys: pytest.CaptureFixture[str]
) -> None:
    client, out = opened(photos), photos.with_name("out")
    client.idle()
    for what in ("model", "onnx", "folder", "table"):
        client.refused(409, "POST", "save", what=what)
    label_all(client, "r3.png")
    client.post("train", method="coop", epochs=1)
    client.idle()
    saved = {what: client.post("save", what=what) for what in ("model", "folder", "table")}
    model = cocoop.load(out / "model")
    assert model.predict([photos / "b0.png"]).tolist() == [
        client.items(view="labelled")[0]["suggestion"][0]["name"]
    ]
    (result,) = model.info_.results
    assert (result.images, result.trained) == tuple(
        client.get("state")["model"][key] for key in ("held_out", "correct")
    )
    command = saved["model"]["command"].split()
    assert command[:2] == ["cocoop", "predict"]
    with pytest.raises(SystemExit, match="0"):
        main(command[1:])
    assert "b0.png" in capsys.readouterr().out
    images = sorted(path.relative_to(out / "images").as_posix() for path in (out / "images").glob("*/*"))
    assert images == sorted(f"{COLOURS[i['path'][0]]}/{i['path']}" for i in client.items(view="labelled"))
    assert open_source(saved["folder"]["path"]).class_names == ("blue", "green", "red")
    assert saved["table"]["path"] == str(photos / "labels.csv")
    assert client.get("state")["predict"] == saved["model"]["command"]
    for what in ("model", "folder"):
        assert "is there already" in client.refused(409, "POST", "save", what=what)
        client.post("save", what=what, overwrite=True)
    (photos / "b1.png").rename(photos / "away")
    assert "b1.png" in client.refused(409, "POST", "save", what="folder", overwrite=True)
    (photos / "away").rename(photos / "b1.png")
    assert len(list((out / "images").glob("*/*"))) == 11
    (out / "images" / ".cocoop-studio").unlink()
    assert "not from here" in client.refused(409, "POST", "save", what="folder", overwrite=True)


def test_the_labels_of_class_folders_become_a_table_when_it_is_asked_for(
    photos: Path, opened: Opened
) -> None:
    for letter, colour in COLOURS.items():
        (photos / colour).mkdir()
        for path in photos.glob(f"{letter}?.png"):
            path.rename(photos / colour / path.name)
    client = opened(photos)
    state = client.idle()
    assert (state["labelled"], state["can_train"]) == (12, "")
    assert not (photos / "labels.csv").exists()
    client.post("save", what="table")
    assert len((photos / "labels.csv").read_text().splitlines()) == 13


def test_onnx_is_exported_from_a_copy_of_the_model(
    photos: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = opened(photos)
    label_all(client)
    client.idle()
    client.post("train")
    client.idle()
    exported: list[Any] = []
    monkeypatch.setattr("cocoop.deploy.onnx.export.export", lambda *given: exported.append(given))
    saved = client.post("save", what="onnx")
    ((model, classes, place, _, overwrite),) = exported
    assert model is not client.studio.learned.model
    assert model.method_ is client.studio.learned.model.method_
    assert (classes, str(place), overwrite) == (None, saved["path"], False)
    assert saved["command"].endswith(f"onnx/run.py {photos}/b0.png")


def test_one_training_at_a_time_which_can_be_cancelled(
    photos: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = opened(photos)
    label_all(client)
    client.idle()
    client.post("train", method="coop", epochs=5000)
    assert "runs already" in client.refused(409, "POST", "train")
    assert client.get("state")["training"]["state"] == "running"
    client.checked(client.http.delete("/api/train"))
    state = client.idle()
    assert (state["training"]["state"], state["model"]) == ("cancelled", None)

    def broken(*arguments: object, **named: object) -> None:
        raise MemoryError

    monkeypatch.setattr("cocoop.estimator.estimator.train_model", broken)
    client.post("train")
    state = client.idle()
    assert state["training"]["state"] == "failed"
    assert "out of memory" in state["training"]["error"]
    monkeypatch.undo()
    client.post("train")
    assert client.idle()["model"]["method"] == default_method()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"method": "tpt"}, "does not learn"),
        ({"method": "zeroshot"}, "does not learn"),
        ({"method": "nothing"}, "unknown method"),
        ({"method": "coop", "epochs": 0}, "learns by steps"),
        ({"method": "coop", "settings": {"zz": 1}}, "unknown setting"),
        ({"method": "coop", "settings": {"n_ctx": "many"}}, "n_ctx"),
        ({"method": "coop", "settings": {"starts_from": "/etc/passwd"}}, "opens none"),
        ({"preset": "coop-released"}, "preset"),
        ({"epochs": -1}, "epochs"),
        ({"other": 1}, "other"),
    ],
)
def test_impossible_trainings_are_refused(
    photos: Path, opened: Opened, body: dict[str, Any], words: str
) -> None:
    client = opened(photos)
    label_all(client)
    client.idle()
    assert words in client.refused(422, "POST", "train", **body)


def test_what_can_be_trained_follows_the_facts(photos: Path, opened: Opened) -> None:
    listed = opened(photos).get("methods")
    assert [each["name"] for each in listed["methods"]] == [
        name for name in listed_in_order() if learnable(name)
    ]
    default = facts_of(listed["default"])
    assert (default.bound, bool(default.quick), default.training) == (False, True, "closed form")


def listed_in_order() -> list[str]:
    from cocoop.methods import ordered

    assert set(ordered()) == set(METHODS.names())
    return ordered()


def png(colour: str, edge: int = 20, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (edge, edge), colour).save(file, kind)
    return file.getvalue()


def send(client: Client, *files: tuple[str, bytes]) -> Any:
    return client.http.post("/api/upload", files=[("images", each) for each in files])


def test_dropped_images_are_taken_in(tmp_path: Path, opened: Opened) -> None:
    (tmp_path / "photos").mkdir()
    client = opened(tmp_path / "photos")
    client.idle()
    given = [
        ("../../etc/a b.png", png("red")),
        (".hidden", png("green", kind="JPEG")),
        ("x.png", b"no image"),
    ]
    found = client.checked(send(client, *given))
    assert [each["name"] for each in found["refused"]] == ["x.png"]
    assert sorted(path.name for path in (tmp_path / "photos").iterdir()) == ["a b.png", "hidden.jpg"]
    again = client.checked(send(client, ("a b.png", png("red")), ("a b.png", png("blue"))))
    assert (len(again["added"]), again["known"]) == (1, [found["added"][0]])
    client.names("red", "green")
    state = client.idle()
    assert (state["images"], state["features"]["done"], state["unreadable"]) == (3, 3, 0)
    assert all(item["suggestion"] for item in client.items())
    client.post("label", ids=found["added"], name="red")
    assert client.get("state")["labelled"] == 2


def test_photographs_that_come_into_an_empty_folder_are_warned_of(tmp_path: Path, opened: Opened) -> None:
    (tmp_path / "photos").mkdir()
    client = opened(tmp_path / "photos", backbone="tiny-clip")
    assert client.idle()["backbone"]["warning"] == ""
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    client.checked(send(client, ("a.jpg", file.getvalue())))
    assert "knows drawings, not photographs" in client.idle()["backbone"]["warning"]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a/b\\c.PNG", "c.PNG"),
        ("", "image.png"),
        ("...", "image.png"),
        ("con:<>|?*.png", "con______.png"),
        ("a\nb\x1b[31m.png", "a_b_x1b[31m.png"),
        ("photo", "photo.png"),
        ("photo.exe", "photo.exe.png"),
        ("x" * 300 + ".png", "x" * 100 + ".png"),
    ],
)
def test_names_of_dropped_files_harm_nothing(name: str, safe: str) -> None:
    from cocoop.deploy.studio.upload import safe_name

    assert safe_name(name, "PNG") == safe


def test_too_much_at_once_is_refused(photos: Path, opened: Opened) -> None:
    client = opened(photos)
    assert send(client, *[(f"{n}.png", png("red")) for n in range(LIMITS.images + 1)]).status_code == 400
    assert send(client, ("a.png", b"0" * 300_000)).status_code == 413
    assert client.http.post("/api/upload", json={}).status_code == 415
    many = [f"name {n}" for n in range(LIMITS.classes + 1)]
    assert client.http.put("/api/names", json={"names": [{"name": n} for n in many]}).status_code == 422
    client.names(*many[:-1])
    (one,) = client.ids("r0.png")
    assert "more than 12 names" in client.refused(422, "POST", "label", ids=[one], name=many[-1])
    client.post("label", ids=[one], name=many[0])


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "label", {"ids": ["0" * 16], "name": "x"}, 404),
        ("POST", "label", {"ids": []}, 422),
        ("POST", "label", {"name": "x"}, 422),
        ("GET", "thumb/..%2f..%2fetc%2fpasswd", None, 404),
        ("GET", "thumb/r0.png", None, 404),
        ("GET", "image/0", None, 404),
        ("GET", "images?view=other", None, 422),
        ("GET", "images?count=501", None, 422),
        ("GET", "images?offset=-1", None, 422),
        ("GET", "images?ids=zz", None, 404),
        ("POST", "save", {"what": "everything"}, 422),
        ("POST", "save", {"what": "model", "path": "/tmp"}, 422),
        ("PUT", "names", {"names": [{"name": "a"}, {"name": "A"}]}, 422),
        ("PUT", "names", {"names": [{"name": "a"}, {"name": "a"}]}, 422),
        ("PUT", "names", {"names": [{"name": "\x1b"}]}, 422),
        ("PUT", "state", None, 405),
        ("GET", "nothing", None, 404),
    ],
)
def test_what_is_refused(
    photos: Path, opened: Opened, method: str, path: str, body: dict[str, Any] | None, status: int
) -> None:
    client = opened(photos)
    client.refused(status, method, path, **(body or {}))
    assert client.get("state")["labelled"] == 0


def test_pictures_are_small_upright_and_kept_by_the_browser(tmp_path: Path, opened: Opened) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    wide = Image.new("RGB", (3000, 1000), "blue")
    turned = wide.getexif()
    turned[0x0112] = 6  # to be turned by 90 degrees
    wide.save(folder / "wide.jpg", exif=turned)
    Image.new("RGBA", (10, 20), (255, 0, 0, 0)).save(folder / "clear.png")
    (folder / "broken.jpg").write_bytes((folder / "wide.jpg").read_bytes()[:500])
    client = opened(folder)
    client.idle()
    broken, clear, big = client.ids("broken.jpg", "clear.png", "wide.jpg")
    for kind, edge in (("thumb", 240), ("image", 1600)):
        response = client.http.get(f"/api/{kind}/{big}")
        with Image.open(io.BytesIO(response.content)) as picture:
            assert (picture.format, picture.size) == ("JPEG", (round(edge / 3), edge))
        assert "immutable" in response.headers["cache-control"]
        assert response.headers.get_list("cache-control") == [response.headers["cache-control"]]
    with Image.open(io.BytesIO(client.http.get(f"/api/thumb/{clear}").content)) as picture:
        assert picture.getpixel((5, 5)) == (255, 255, 255)
    client.refused(404, "GET", f"thumb/{broken}")
    state = client.get("state")
    assert (state["unreadable"], state["features"]["total"]) == (1, 2)
    (item,) = client.items(view="unreadable")
    assert item["path"] == "broken.jpg"
    assert item["problem"]


def test_a_second_start_encodes_nothing_again(
    photos: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = opened(photos)
    client.names("red", "green")
    client.post("label", ids=client.ids("r0.png", "r1.png"), name="red")
    client.idle()
    client.studio.stop()
    monkeypatch.setattr("cocoop.deploy.studio.features.decode_photo", None)
    again = opened(photos)
    state = again.idle()
    assert (state["features"]["done"], state["labelled"]) == (12, 2)
    torch.testing.assert_close(again.studio.features.raw, client.studio.features.raw)
    assert again.items() == client.items()


def test_changes_of_many_tabs_at_once_are_all_kept(photos: Path, opened: Opened) -> None:
    client = opened(photos)  # while its features are encoded
    ids = client.ids(*sorted(path.name for path in photos.glob("*.png")))

    def tab(number: int) -> None:
        for each in ids[number::3]:
            client.post("label", ids=[each], name=f"name {number}")
            client.get("images", view="next")

    tabs = [threading.Thread(target=tab, args=(number,)) for number in range(3)]
    for each in tabs:
        each.start()
    for each in tabs:
        each.join()
    state = client.idle()
    assert (state["labelled"], {n["name"]: n["count"] for n in state["names"]}) == (
        12,
        {f"name {number}": 4 for number in range(3)},
    )
    assert len((photos / "labels.csv").read_text().splitlines()) == 13


def test_a_backbone_that_is_not_there_is_said_and_labelling_goes_on(photos: Path, opened: Opened) -> None:
    client = opened(photos, backbone="ViT-B-16/openai@nowhere.pt")
    state = client.idle()
    assert "nowhere.pt" in state["backbone"]["error"]
    client.post("label", ids=client.ids("r0.png"), name="red")
    assert "nowhere.pt" in client.refused(409, "POST", "train")
    client.refused(409, "POST", "try", names=["x"])
    assert client.items(view="next") == []


def test_the_page_and_its_files_come_with_the_package(photos: Path, opened: Opened) -> None:
    client = opened(photos)
    page = client.http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert client.http.get("/static/style.css").status_code == 200
    assert client.http.get("/static/../../tiny-clip/config.json").status_code == 404
    assert client.http.post("/api/undo", headers={"origin": "http://evil.example"}).status_code == 403
