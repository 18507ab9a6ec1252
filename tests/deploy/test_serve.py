"""The page and the API: what they answer, what they refuse and how, and that they go on afterwards."""

import io
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from rich.console import Console

import cocoop
from cocoop import CoCoOp, CocoopError, CoOp, ZeroShot
from cocoop.deploy.serve.answers import SideBySide, Upload, split_names
from cocoop.deploy.serve.app import make_app
from cocoop.deploy.serve.connections import LOOPBACK
from cocoop.deploy.serve.limits import Limits, Refused
from cocoop.deploy.serve.page import render
from cocoop.deploy.serve.server import name_models, serve
from tests.cli.test_cli import call
from tests.estimator.test_estimator import painted

IMAGES, LABELS = painted(2)
LIMITS = Limits(request_bytes=200_000, pixels=10_000, images=3, classes=5, name_length=40, waiting=2)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def upload(name: str, data: bytes) -> Upload:
    return Upload(name, lambda: data)


RED, GREEN = png(IMAGES[0]), png(IMAGES[2])


@pytest.fixture(scope="module")
def models() -> SideBySide:
    kinds = {"coop": CoOp, "cocoop": CoCoOp}
    return SideBySide({n: kind("toy", epochs=1).fit(IMAGES, LABELS) for n, kind in kinds.items()}, LIMITS)


@pytest.fixture
def client(models: SideBySide) -> Iterator[TestClient]:
    with TestClient(make_app(models, LOOPBACK), base_url="http://127.0.0.1:7860") as client:
        yield client


def post(client: TestClient, *images: bytes, to: str = "/api/predict", **fields: str) -> object:
    return client.post(to, files=[("images", ("a.png", data)) for data in images], data=fields)


def test_the_answer_is_that_of_every_model(client: TestClient, models: SideBySide) -> None:
    response = post(client, RED, GREEN, classes="red, violin\n  teapot ,red", top_k="2")
    assert response.status_code == 200
    names = ["red", "violin", "teapot"]
    for row, answer in enumerate(response.json()["images"]):
        assert answer["file"] == "a.png"
        assert list(answer["answers"]) == ["zero-shot", "coop", "cocoop"]
        for label, top in answer["answers"].items():
            expected = models.models[label].predict_proba([IMAGES[2 * row]], names)[0]
            best = np.argsort(-expected)[:2]
            assert [each["name"] for each in top] == [names[i] for i in best]
            assert [each["probability"] for each in top] == pytest.approx(expected[best].tolist(), rel=1e-4)


def test_several_classes_an_image(models: SideBySide) -> None:
    several = CoOp("toy", epochs=1).fit(IMAGES, [[label] for label in LABELS])
    both = SideBySide({"several": several, "one": models.models["coop"]}, LIMITS)
    with TestClient(make_app(both, LOOPBACK), base_url="http://127.0.0.1:7860") as client:
        answer = post(client, RED).json()["images"][0]
        page = post(client, RED, to="/results").text
    assert list(answer["answers"]) == ["zero-shot", "several", "one"]
    assert list(answer["labels"]) == ["several"]
    assert tuple(answer["labels"]["several"]) == several.predict([IMAGES[0]])[0]
    scores = {each["name"]: each["score"] for each in answer["answers"]["several"]}
    expected = dict(zip(several.classes_, several.predict_proba([IMAGES[0]])[0].tolist(), strict=True))
    assert scores == pytest.approx(expected, rel=1e-4)
    assert {tuple(each) for each in answer["answers"]["one"]} == {("name", "probability")}
    assert (", ".join(answer["labels"]["several"]) or "none of these") in page
    assert list(SideBySide({"several": several}, LIMITS).models) == ["several"]  # no softmax beside it


def test_without_names_the_models_own_are_used(client: TestClient) -> None:
    answers = post(client, RED).json()["images"][0]["answers"]
    assert {each["name"] for each in answers["coop"]} == {"red", "green", "blue"}
    known = client.get("/api/models").json()
    assert known["classes"] == ["blue", "green", "red"]
    assert known["models"]["cocoop"] == {"method": "cocoop", "backbone": "toy"}


def test_an_image_seen_before_is_not_encoded_again(
    models: SideBySide, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = models.answer([upload("a", RED)], ["red", "green"], 1)
    monkeypatch.setattr("cocoop.deploy.serve.uploads.decode_photo", None)
    assert models.answer([upload("b", RED)], ["red", "green"], 1)[0].tops == first[0].tops


REFUSED = ("400", "403", "408", "413", "415", "422", "429", "500", "503")
HUGE = png(Image.new("L", (200, 200)))
WRONG = {
    "no image": ([], {}, 415, "multipart/form-data"),
    "not an image": ([b"hello"], {}, 415, "a.png is no image"),
    "a cut image": ([RED[:60]], {}, 415, "a.png is no image"),
    "too many pixels": ([HUGE], {}, 413, "more than 10,000 pixels"),
    "too many images": ([RED] * 4, {}, 400, "number of files is 3"),
    "too many bytes": ([b"0" * 300_000], {}, 413, "more than 200,000 bytes"),
    "far too many bytes": ([b"0" * 3_000_000], {}, 413, "more than 200,000 bytes"),
    "too many names": ([RED], {"classes": "a,b,c,d,e,f"}, 422, "at most 5"),
    "a long name": ([RED], {"classes": "a" * 41}, 422, "longer than 40"),
    "a name of too many tokens": ([RED], {"classes": "漢" * 30}, 422, "shorten the class name"),
    "a wrong number": ([RED], {"top_k": "many"}, 422, "top_k"),
    "no names to show": ([RED], {"top_k": "0"}, 422, "top_k"),
}


@pytest.mark.filterwarnings("ignore:.*was trained on English")  # the server's log says it
@pytest.mark.parametrize("to", ["/api/predict", "/results"])
@pytest.mark.parametrize("case", WRONG)
def test_what_is_refused_and_how(client: TestClient, case: str, to: str) -> None:
    images, fields, status, words = WRONG[case]
    response = post(client, *images, to=to, **fields)
    assert response.status_code == status, response.text
    assert words in response.json()["error"]
    assert str(Path(cocoop.__file__).parent) not in response.text
    assert post(client, RED).status_code == 200  # it goes on


def test_a_bomb_is_not_decoded(client: TestClient) -> None:
    header = bytearray(png(Image.new("L", (1, 1))))
    header[16:24] = (60_000).to_bytes(4, "big") * 2  # width and height, which Pillow reads first
    response = post(client, bytes(header))
    assert response.status_code in (413, 415)


def test_too_many_at_once_are_told_so(client: TestClient, models: SideBySide) -> None:
    waiting = threading.Thread(target=post, args=(client, RED))
    with models._turn:  # a long answer is being computed
        places = [models._places.acquire(blocking=False) for _ in range(LIMITS.waiting)]
        response = post(client, RED)
        assert response.status_code == 429
        assert response.headers["retry-after"]
        assert "too many requests" in response.json()["error"]
        models._places.release()
        waiting.start()  # has a place, and waits for its turn
    waiting.join(timeout=20)
    assert not waiting.is_alive()
    models._places.release()
    assert all(places)
    assert post(client, RED).status_code == 200


def test_nothing_is_computed_that_nobody_waits_for(models: SideBySide) -> None:
    with pytest.raises(Refused, match="nobody waits"):
        models.answer([upload("a", RED)], ["red"], 1, wanted=lambda: False)
    with models._turn, pytest.raises(Refused, match="nobody waits"):
        models.answer([upload("a", RED)], ["red"], 1, wanted=lambda: False)
    places = [models._places.acquire(blocking=False) for _ in range(LIMITS.waiting)]
    assert all(places)
    models._places.release(len(places))


def test_a_computation_that_takes_too_long_is_ended(models: SideBySide) -> None:
    slow = SideBySide({"coop": models.models["coop"]}, replace(LIMITS, computing=0.0))
    for _ in range(LIMITS.waiting + 1):  # places are given back
        with pytest.raises(Refused, match="1 images and 2 names take longer than 0 s; send fewer"):
            slow.answer([upload("a", RED)], ["red", "green"], 1)


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_pages_fetch_nothing_from_elsewhere(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert not re.findall(r"(?:src|href)=\"?(?:https?:)?//", response.text)
    assert "default-src 'self'" in response.headers["content-security-policy"]
    for link in re.findall(r"(?:src|href)=\"(?!data:)([^\"]+)\"", response.text):
        assert client.get(f"/{link.removeprefix('./')}").status_code == 200, link


def test_what_is_shown_is_escaped(models: SideBySide) -> None:
    attack = "<script>alert(1)"
    page = render(models.answer([upload(attack, RED), upload("b", GREEN)], [attack, "green"], 2))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 7  # file name, three models, two images


def test_the_least_certain_come_first(models: SideBySide) -> None:
    answers = models.answer([upload("a", RED), upload("b", GREEN)], ["red", "green"], 1)
    shares = re.findall(r"</b> (\d+)%", render(answers))
    assert sorted(round(100 * answer.confidence("cocoop")) for answer in answers) == list(map(int, shares))


def test_names_of_models() -> None:
    coop, other = ZeroShot("toy"), ZeroShot("toy")
    cocoop_ = CoCoOp("toy")
    assert list(name_models([(Path("a/m"), coop), (Path("b/m"), cocoop_)])) == ["zeroshot", "cocoop"]
    assert list(name_models([(Path("a/m"), coop), (Path("a/n"), other)])) == ["m", "n"]
    assert list(name_models([(Path("a/m"), coop), (Path("b/m"), other)])) == ["a/m", "b/m"]


def test_models_whose_logits_are_approximate_say_so() -> None:
    linear = CoCoOp("toy", testing="linear")
    assert list(name_models([(Path("a/m"), linear)])) == ["cocoop (linear)"]


def test_a_zero_shot_model_stands_once() -> None:
    model = ZeroShot("toy").fit(IMAGES, LABELS)
    assert list(SideBySide({"zeroshot": model}).models) == ["zeroshot"]


def test_what_a_model_started_from_need_not_be_there() -> None:
    model = CoOp("toy", epochs=1).fit(IMAGES, LABELS)
    model.set_params(settings={"starts_from": "gone.safetensors#sha256:0"})
    assert list(SideBySide({"coop": model}).models) == ["zero-shot", "coop"]


def test_vectors_of_classes_do_not_move_to_others() -> None:
    model = CoOp("toy", epochs=1, settings={"class_specific": True}).fit(IMAGES, LABELS)
    client = TestClient(make_app(SideBySide({"coop": model}), None))
    assert post(client, RED).status_code == 200
    (answer,) = post(client, RED, classes="violin").json()["images"]
    assert list(answer["answers"]) == list(answer["sure"]) == ["zero-shot"]
    assert "each of its own classes" in answer["refused"]["coop"]
    page = post(client, RED, GREEN, to="/results", classes="violin,tuba").text
    assert page.count("No answer: ") == 2
    assert "By zero-shot." in page


def test_one_image_that_cannot_be_read_does_not_cost_the_others(client: TestClient) -> None:
    response = post(client, RED, b"hello", GREEN, classes="red,green")
    assert response.status_code == 200
    whole = post(client, RED, GREEN, classes="red,green").json()["images"]
    first, bad, last = response.json()["images"]
    assert [first, last] == whole
    assert set(first) == {"file", "answers", "sure"}  # as ever
    assert (bad["answers"], bad["sure"]) == ({}, {})
    assert bad["error"].startswith("a.png is no image that can be read")
    assert "more than 10,000 pixels" in post(client, HUGE, RED).json()["images"][0]["error"]
    page = post(client, RED, b"hello", GREEN, to="/results").text
    assert (page.count("<article>"), page.count("a.png is no image")) == (3, 1)
    assert "Least certain" in page
    assert "Least certain" not in post(client, RED, b"hello", to="/results").text
    for to in ("/api/predict", "/results"):
        response = post(client, b"hello", HUGE, to=to)  # none can be: the first one's reason
        assert (response.status_code, "is no image" in response.json()["error"]) == (415, True)


def test_the_description_of_the_api_is_true(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    asked = described["paths"]["/api/predict"]["post"]
    form = asked["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert set(form) == {"images", "classes", "top_k"}
    shapes = described["components"]["schemas"]
    refused = {asked["responses"][code]["content"]["application/json"]["schema"]["$ref"] for code in REFUSED}
    assert refused == {"#/components/schemas/Problem"}
    assert "HTTPValidationError" not in shapes
    for image in (
        *post(client, RED, b"hello").json()["images"],
        *post(client, RED, classes="red").json()["images"],
    ):
        assert (
            set(shapes["ImageAnswer"]["required"]) <= set(image) <= set(shapes["ImageAnswer"]["properties"])
        )
        for top in image["answers"].values():
            assert all({"name"} < set(each) < set(shapes["Named"]["properties"]) for each in top)


def test_split_names() -> None:
    assert split_names(" red  apple,\n\nviolin\nred apple ") == ("red apple", "violin")


def test_a_taken_port_is_one_message(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ZeroShot("toy").fit(IMAGES, LABELS).save(tmp_path / "m")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert call("serve", str(tmp_path / "m"), "--port", str(port)) == 1
    shown = capfd.readouterr().err
    assert f"port {port}" in shown
    assert "Traceback" not in shown


def test_a_missing_model_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(CocoopError, match="no model folder"):
        serve([tmp_path], "127.0.0.1", 0, Limits(), Console(quiet=True))
