"""A model on the Hub: what goes there, what comes back, what is refused; it is a server of these tests."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard, constants

import cocoop
from cocoop import CocoopError, CoOp, UsageError, ZeroShot
from cocoop.deploy.serve.server import name_models
from cocoop.estimator.card import ModelInfo
from cocoop.estimator.folder import model_files, read_model
from cocoop.estimator.many import Job
from cocoop.estimator.pull import Address, address, is_file, model_folder, pinned
from cocoop.estimator.push import prepare, upload, without_paths
from cocoop.utils.files import file_digest
from tests.cli.test_cli import call
from tests.estimator.test_estimator import painted
from tests.hubs import READER, TOKEN, Hub, serving

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own
IMAGES, LABELS = painted(2)
PLACE = Address("ada/colours")


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """An empty Hub, in the place of the real one, whose owner is signed in here."""
    for kept in (server.repositories, server.stored, server.plans, server.requests, server.tokens):
        kept.clear()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # a protocol of its own, in a binary
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return server


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "m"
    CoOp("toy", epochs=1).fit(IMAGES, LABELS).save(folder)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}


def test_what_is_pushed_is_loaded(hub: Hub, model: Path) -> None:
    plan = prepare(model, PLACE)
    assert (plan.exists, plan.private, plan.there, plan.removed) == (False, False, (), [])
    assert upload(plan) == f"{hub.url}/ada/colours"
    there = hub.repositories["ada/colours"]
    assert not there.private
    assert len(there.commits) == 2  # the Hub's own first one, and the model in one
    assert set(there.files()) == {".gitattributes", *files_of(model)}
    loaded, made = cocoop.load("hf:ada/colours"), cocoop.load(model)
    for classes in (None, ["violin", "red apple"]):
        assert np.array_equal(loaded.predict_proba(IMAGES, classes), made.predict_proba(IMAGES, classes))


def test_only_the_files_of_a_model_are_fetched(hub: Hub, model: Path, tmp_path: Path) -> None:
    strangers = {
        "setup.py": b"1/0",
        "weights.bin": b"",
        "prompt-evil.safetensors": b"",
        "a/model.json": b"{}",
    }
    hub.put("ada/colours", files_of(model) | strangers)
    folder = model_folder("hf:ada/colours")
    assert {path.name for path in folder.iterdir()} == {p.name for p in model.glob("[!.]*")} - {"README.md"}
    asked = {request.rpartition("/")[2] for request in hub.requests}
    assert asked == {path.name for path in folder.iterdir()}


def test_a_private_model(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(prepare(model, PLACE, private=True))
    assert hub.repositories["ada/colours"].private
    assert prepare(model, PLACE).private  # what is there stays as it is
    assert model_folder("hf:ada/colours")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(
        CocoopError, match=r"is not on the Hub .* or it is private: sign in, with hf auth login"
    ):
        model_folder("hf:ada/colours")


def test_one_that_is_public_is_not_made_private_silently(hub: Hub, model: Path) -> None:
    upload(prepare(model, PLACE))
    with pytest.raises(UsageError, match="ada/colours is public already; make it private at"):
        prepare(model, PLACE, private=True)


def test_a_model_is_replaced_in_one_commit(hub: Hub, model: Path, tmp_path: Path) -> None:
    upload(prepare(model, PLACE))
    first = pinned("hf:ada/colours")
    CoOp("toy", epochs=2).fit(IMAGES, LABELS).save(tmp_path / "other")
    hub.repositories["ada/colours"].files()["LICENSE"] = b"of its owner"
    plan = prepare(tmp_path / "other", PLACE)
    (old,) = (path.name for path in model.glob("prompt-*"))
    assert plan.removed == [old]
    assert "README.md" in plan.there
    upload(plan)
    there = hub.repositories["ada/colours"]
    assert len(there.commits) == 3
    assert set(there.files()) == {".gitattributes", "LICENSE", *files_of(tmp_path / "other")}
    assert read_model(model_folder("hf:ada/colours"))[0].recipe["epochs"] == 2
    assert read_model(model_folder(first))[0].recipe["epochs"] == 1  # the commit that it was pinned to


def test_a_revision(hub: Hub, model: Path, tmp_path: Path) -> None:
    hub.put("ada/colours", {".gitattributes": b""})
    for _ in range(2):  # a branch may be there already
        upload(prepare(model, replace(PLACE, revision="v2")))
    with pytest.raises(CocoopError, match=r"hf:ada/colours on the Hub has no model\.json"):
        model_folder("hf:ada/colours")
    folder = model_folder("hf:ada/colours@v2")
    commit = hub.repositories["ada/colours"].branches["v2"]
    assert folder.name == commit
    assert model_folder(f"hf:ada/colours@{commit}") == folder
    assert pinned("hf:ada/colours@v2") == Path(f"hf:ada/colours@{commit}")
    with pytest.raises(CocoopError, match="hf:ada/colours@v3 is not on the Hub: there is no such revision"):
        model_folder("hf:ada/colours@v3")


def test_a_branch_is_looked_at_as_it_is(hub: Hub, model: Path) -> None:
    old = "prompt-0123456789abcdef.safetensors"
    repository = hub.put("ada/colours", {**files_of(model), old: b"old"})
    repository.commit({"README.md": b""}, "v2")
    assert prepare(model, replace(PLACE, revision="v2")).there == ("README.md",)
    plan = prepare(model, replace(PLACE, revision="v3"))  # as the main one
    assert plan.removed == [old]
    upload(plan)
    assert set(repository.files("v3")) == set(files_of(model))
    assert old in repository.files()


def test_work_in_pieces_is_of_one_commit(hub: Hub, model: Path) -> None:
    upload(prepare(model, PLACE))
    first = Job(pinned("hf:ada/colours"))
    files = hub.repositories["ada/colours"].files()
    hub.repositories["ada/colours"].commit(files | {"model.json": b"another"})
    assert first.about([])["model"] == file_digest(model / "model.json")


def test_names_of_models_that_are_served() -> None:
    pairs = [(Path(f"hf:ada/{name}"), CoOp("toy")) for name in ("colours", "birds@v2")]
    assert list(name_models(pairs)) == ["colours", "birds@v2"]


def test_something_else_is_not_overwritten(hub: Hub, model: Path) -> None:
    hub.put("ada/colours", {"README.md": b"", "config.json": b"{}", "model.safetensors": b""})
    with pytest.raises(UsageError, match=r"holds something else than a model: 'config\.json'"):
        prepare(model, PLACE)
    with pytest.raises(CocoopError, match=r"has no model\.json: it is no model folder .*--backbone"):
        model_folder("hf:ada/colours")


NAMES = ["hf:colours", "hf:a/b/c", "hf:", "hf:ada/", "hf:../secret", "hf:ada/..", "hf:ada/m@", "hf:a b/c"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_name(hub: Hub, name: str) -> None:
    with pytest.raises(UsageError, match=r"is no name of a model on the Hub: .*[wW]rite hf:OWNER/NAME"):
        cocoop.load(name)
    assert hub.requests == []


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert address("ada/colours") == address("hf:ada/colours") == PLACE
    assert address("hf:ada/colours@refs/pr/1") == Address("ada/colours", "refs/pr/1")
    assert str(address("ada/colours@v2")) == "hf:ada/colours@v2"
    files = ["ViT-B-16@w.pt", "ViT-B-16/openai@/x/w.pt", "w.pt", "toy+0.5*w.safetensors", str(Path(__file__))]
    assert all(map(is_file, files))
    others = ["ViT-B-16/openai", "ViT-B/16", "tiny-clip", "toy", "hf:a/b", "hf-hub:a/b", "toy+0.5*tiny-clip"]
    assert not any(map(is_file, others))
    monkeypatch.chdir(tmp_path)
    for embedded in ("tiny-clip", "tiny-clip-vit"):  # whatever lies here
        Path(embedded).mkdir()
        assert not is_file(embedded)


def test_nobody_is_signed_in(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(CocoopError, match=r"nobody is signed in to the Hub: hf auth login .*HF_TOKEN"):
        prepare(model, PLACE)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("token", "place", "words"),
    [
        ("hf_forgotten", PLACE, "the Hub does not know this token"),
        (READER, PLACE, "is not for this token: it has no right"),
        (TOKEN, Address("bob/colours"), "is not for this token: it has no right"),
    ],
)
def test_who_may_not_write(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, token: str, place: Address, words: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(CocoopError, match=words) as error:
        upload(prepare(model, place))
    assert token not in str(error.value)
    assert hub.repositories == {}


REFUSED = {
    "401": "does not know this token",
    "403": "is not for this token",
    "410": "is refused by the Hub: .*410",
}


@pytest.mark.parametrize("status", REFUSED)
def test_what_the_hub_refuses(hub: Hub, model: Path, status: str) -> None:
    hub.put("ada/colours", files_of(model))
    hub.plans["model.json"] = [status]
    with pytest.raises(CocoopError, match=f"^hf:ada/colours .*{REFUSED[status]}"):
        model_folder("hf:ada/colours")
    assert model_folder("hf:ada/colours")


def test_what_is_not_there(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CocoopError, match=r"hf:ada/none is not on the Hub .*or this token may not see it"):
        model_folder("hf:ada/none")
    monkeypatch.setenv("HF_TOKEN", READER)
    hub.put("ada/terms", files_of(model), gated=True)
    with pytest.raises(CocoopError, match="hf:ada/terms is given to those who accept its terms: see http"):
        model_folder("hf:ada/terms")


HOSTILE = {
    "large": "has 1,099,511,627,776 bytes",
    "unsized": "does not say its size",
    "escape": "is not fetched: the answer",
}


@pytest.mark.parametrize("doing", HOSTILE)
@pytest.mark.parametrize("file", ["model.json", "prompt-"])
def test_what_is_not_fetched(hub: Hub, model: Path, tmp_path: Path, doing: str, file: str) -> None:
    hub.put("ada/colours", files_of(model))
    hub.plans[file] = [doing]
    with pytest.raises(CocoopError, match=HOSTILE[doing]):
        model_folder("hf:ada/colours")
    assert not list(tmp_path.rglob("*escaped*"))
    assert not [request for request in hub.requests if request.startswith("GET") and file in request]


def test_a_model_that_tells_of_another_file(hub: Hub, model: Path) -> None:
    (name,) = (path.name for path in model.glob("prompt-*"))
    hub.put("ada/colours", files_of(model) | {name: b"other"})
    with pytest.raises(CocoopError, match=rf"{name} of hf:ada/colours is not the file that its model\.json"):
        model_folder("hf:ada/colours")
    hub.put("ada/settings", {"model.json": b'{"architecture": "llama"}'})
    with pytest.raises(
        CocoopError, match=r"model\.json of hf:ada/settings was changed .*no model of this pac"
    ):
        model_folder("hf:ada/settings")


def test_a_backbone_that_is_a_file_is_not_opened(
    hub: Hub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, tensors = read_model(model)
    card = info.prompt.model_copy(update={"backbone": str(tmp_path)})
    hub.put("ada/colours", model_files(tensors, info.model_copy(update={"prompt": card})))
    clip = cocoop.load_backbone("toy")
    monkeypatch.setattr("cocoop.estimator.shared_backbone", None)
    with pytest.raises(CocoopError, match=r"trained on a backbone that is a file, .*load_backbone\(FILE\)"):
        cocoop.load("hf:ada/colours")
    assert cocoop.load("hf:ada/colours", clip).classes_.tolist() == ["blue", "green", "red"]


@pytest.mark.parametrize("file", ["model.json", "prompt-"])
def test_a_broken_connection(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, file: str, tmp_path: Path
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.put("ada/colours", files_of(model))
    hub.plans[file] = ["", *["break"] * 50]  # the first one asks for the size
    with pytest.raises(CocoopError, match=f"{file}.* of hf:ada/colours cannot be fetched: .*try again"):
        model_folder("hf:ada/colours")
    hub.plans.clear()
    assert cocoop.load("hf:ada/colours").classes_.tolist() == ["blue", "green", "red"]


def test_an_upload_that_breaks_leaves_nothing_of_the_model(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    plan = prepare(model, PLACE)
    hub.plans["/commit/"] = ["500"] * 10
    with pytest.raises(
        CocoopError, match=r"is refused by the Hub: .*500.* Nothing of the model is there; try"
    ):
        upload(plan)
    assert set(hub.repositories["ada/colours"].files()) == {".gitattributes"}
    hub.plans.clear()
    upload(prepare(model, PLACE))
    assert model_folder("hf:ada/colours")


@pytest.mark.parametrize("how", ["offline", "unreachable", "down"])
def test_without_the_hub_the_cache_answers(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    upload(prepare(model, PLACE))
    folder = model_folder("hf:ada/colours")
    hub.requests.clear()
    if how == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert model_folder("hf:ada/colours") == folder
        words = "HF_HUB_OFFLINE is set"
    else:
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        if how == "down":
            hub.plans["/resolve/"] = ["503"] * 200
        else:
            address = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        with pytest.warns(UserWarning, match="cannot be reached; hf:ada/colours is taken from the cache"):
            assert model_folder("hf:ada/colours") == folder
        words = "cannot be reached"
    with pytest.raises(CocoopError, match=rf"^model\.json of hf:ada/o is neither in .*{words}"):
        model_folder("hf:ada/o")
    with pytest.raises(CocoopError, match="is neither in"):
        model_folder("hf:ada/colours@v9")
    assert model_folder(f"hf:ada/colours@{folder.name}") == folder
    assert how != "offline" or hub.requests == []


def test_the_card_is_the_hubs(hub: Hub, model: Path) -> None:
    info, tensors = read_model(model)
    real = info.prompt.model_copy(update={"backbone": "ViT-B-16/openai"})
    folder = model.parent / "flowers"
    folder.mkdir()
    for name, data in model_files(tensors, info.model_copy(update={"prompt": real})).items():
        (folder / name).write_bytes(data)
    card = ModelCard(prepare(folder, PLACE).files["README.md"].decode())
    assert card.data.library_name == "cocoop"
    assert card.data.pipeline_tag == "zero-shot-image-classification"
    assert card.data.base_model == "timm/vit_base_patch16_clip_224.openai"
    assert card.data.base_model_relation == "adapter"
    assert {"clip", "coop"} <= set(card.data.tags)
    assert "\n# colours\n" in card.text
    assert "cocoop.load('hf:ada/colours')" in card.text


def test_the_readme_is_its_owners(hub: Hub, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    for name, data in files_of(model).items():
        (folder / name).write_bytes(data)
    words = (
        "---\nlicense: mit\ntags: [birds]\n---\n# own\n\nBy me: cocoop.load('own')\nsee /home/ada/notes.md"
    )
    (folder / "README.md").write_text(words)
    plan = prepare(folder, PLACE)
    card = ModelCard(plan.files["README.md"].decode())
    assert (card.data.license, card.data.tags, card.data.library_name) == ("mit", ["birds"], "cocoop")
    assert "By me: cocoop.load('hf:ada/colours')" in card.text
    assert "# colours\n" in card.text
    assert any("looks like a path: 'see /home/ada/notes.md'" in note for note in plan.notes)
    (folder / "README.md").write_text("---\n- a list\n---\n")
    with pytest.raises(CocoopError, match=r"README\.md is no model card"):
        prepare(folder, PLACE)


def test_a_card_that_the_hub_does_not_take(hub: Hub, model: Path) -> None:
    hub.plans["/validate-yaml"] = ["400"]
    with pytest.raises(
        CocoopError, match=r"the front matter of README\.md is not as the Hub takes it: .*error"
    ):
        upload(prepare(model, PLACE))
    assert hub.repositories == {}


PATHS = {
    "/home/ada/w.pt": "w.pt",
    "ViT-B-16@/home/ada/w.pt": "ViT-B-16@w.pt",
    "ViT-B-16/openai@/home/ada/w.pt": "ViT-B-16/openai",
    "toy+0.5*/home/ada/w.pt": "toy+0.5*w.pt",
    "~/models/clip": "clip",
    r"C:\Users\ada\w.pt": "w.pt",
    "file:///home/ada/w.pt": "w.pt",
    "ViT-B-16/openai": "ViT-B-16/openai",
    "hf:ada/clip": "hf:ada/clip",
    "hf-hub:ada/clip": "hf-hub:ada/clip",
}


@pytest.mark.parametrize("backbone", PATHS)
def test_a_backbone_tells_no_folder(model: Path, backbone: str) -> None:
    info, _ = read_model(model)
    info = info.model_copy(update={"prompt": info.prompt.model_copy(update={"backbone": backbone})})
    public, left_out = without_paths(info)
    assert public.prompt.backbone == PATHS[backbone]
    assert left_out == ({} if backbone == PATHS[backbone] else {backbone: PATHS[backbone]})


def test_nothing_tells_of_this_machine(hub: Hub, model: Path, tmp_path: Path) -> None:
    info, tensors = read_model(model)
    body = info.model_dump(mode="json")
    home = "/home/ada lovelace/photos of me"
    body["prompt"] |= {"backbone": f"{home}/w.pt", "notes": {"from": f"{home}/x.pth"}}
    body["params"]["settings"] = {
        "starts_from": f"{home}/start.safetensors#sha256:0",
        "url": "https://x.org/a/b",
    }
    body["results"] = [{"name": f"images of {home}", "classes": 3, "images": 4, "zeroshot": 1, "trained": 2}]
    body["prompt"]["class_names"] = ["and/or", "/etc/passwd the band", "c/o"]
    body["prompt"]["template"] = "a photo of /usr/bin/{}"
    folder = tmp_path / "m"
    folder.mkdir()
    for name, data in model_files(tensors, ModelInfo.model_validate(body)).items():
        (folder / name).write_bytes(data)
    plan = prepare(folder, PLACE)
    for name, data in plan.files.items():
        text = data.decode("utf-8", "replace")
        assert "/home/ada" not in text, name
        assert str(tmp_path) not in text
    (written := tmp_path / "written").mkdir()
    for name, data in plan.files.items():
        (written / name).write_bytes(data)
    public, _ = read_model(written)
    assert public.prompt.class_names == body["prompt"]["class_names"]
    assert public.prompt.template == body["prompt"]["template"]
    assert public.params["settings"]["url"] == "https://x.org/a/b"
    assert any("Left out: " in note and "w.pt" in note for note in plan.notes)
    assert any("backbone is a file" in note for note in plan.notes)


def test_the_command(
    hub: Hub, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("push", str(model), "ada/colours") == 2
    shown = capfd.readouterr()
    assert f"To {hub.url}/ada/colours, new, public: everybody sees it" in shown.out
    assert re.search(r"model\.json\W+[\d,]{4,}", shown.out)
    assert "It tells: 3 class names" in shown.out
    assert "nothing was uploaded; look at this list, and say so with --yes" in shown.err
    assert hub.repositories == {}
    assert call("push", str(model), "ada/colours", "--private", "--revision", "v1", "--yes") == 0
    shown = capfd.readouterr().out
    assert "branch v1, new, private: its owner sees it" in shown
    assert "try: cocoop predict hf:ada/colours@v1 IMAGE" in shown
    IMAGES[0].save(tmp_path / "red.png")
    answers = []
    for each in ("hf:ada/colours@v1", str(model)):
        assert call("predict", each, str(tmp_path / "red.png"), "--format", "json") == 0
        answers.append(json.loads(capfd.readouterr().out))
    assert answers[0] == answers[1]
    assert call("predict", "hf:ada/none", str(tmp_path / "red.png")) == 1
    assert "hf:ada/none is not on the Hub" in capfd.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda question: False)
    assert call("push", str(model), "ada/colours") == 2
    assert "there already, private" in capfd.readouterr().out


def test_a_process_of_its_own(hub: Hub, tmp_path: Path) -> None:
    """As a person calls it: by HF_ENDPOINT and HF_TOKEN, with nothing set inside."""
    ZeroShot("toy").fit(IMAGES, LABELS).save(tmp_path / "zero")
    about = {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HUB_CACHE": str(tmp_path / "fresh"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    code = (
        "import sys, cocoop; from cocoop.cli import main\n"
        f"try: main(['push', {str(tmp_path / 'zero')!r}, 'ada/zero', '--yes'])\n"
        "except SystemExit as end: assert not end.code\n"
        "print(cocoop.load('hf:ada/zero').classes_.tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | about, capture_output=True, text=True
    )
    assert "['blue', 'green', 'red']" in done.stdout, done.stderr
    assert TOKEN not in done.stdout + done.stderr
