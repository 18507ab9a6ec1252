"""The benchmarks run, agree, and count right; no test asserts a time."""

import random
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient

from benchmarks import commands, studio, towers
from benchmarks.closed_form import closed_form
from benchmarks.features import bench_features
from benchmarks.fit import bench_fit
from benchmarks.groups import Step
from benchmarks.images import bench_images
from benchmarks.many import write_shards
from benchmarks.measure import compare
from benchmarks.precision import bench_precision
from benchmarks.text import bench_text, class_names
from benchmarks.threads import SIZES, bench_threads
from benchmarks.views import bench_views
from benchmarks.vocabulary import Sampled, made_up
from cocoop import UsageError, load_backbone
from cocoop.data.decode import decode_photo
from cocoop.data.shards import find_shards
from cocoop.deploy.studio.app import make_app
from cocoop.deploy.studio.loading import Options
from cocoop.deploy.studio.opening import open_folder
from cocoop.deploy.studio.studio import Studio
from cocoop.methods import METHODS
from tests.trees import write_images


def test_text_has_the_promised_keys() -> None:
    result = bench_text(4, 1, "toy", repeats=1)
    for part in ("train", "eval"):
        assert {"reference_s", "engine_s", "ratio", "floor_share"} <= result[part].keys()
    assert {"reference_mb", "engine_mb", "ratio"} <= result["memory"].keys()
    assert result["max_logit_diff"] < 1e-3
    assert result["max_grad_diff"] < 1e-3 * max(1, result["max_grad"])
    assert result["work"]["reference_tokens"] == 4 * 32
    assert {"machine", "versions"} <= result.keys()


def test_the_engine_can_be_measured_alone() -> None:
    result = bench_text(3, 2, "toy", repeats=1, memory_budget=10**6, reference="none")
    assert "max_logit_diff" not in result
    assert set(result["memory"]) == {"engine_mb"}


def test_work_is_counted_by_nodes() -> None:
    """tench, goldfish, great white shark: 4 context nodes, then 2-3 tokens a name, stop and end."""
    work = bench_text(1, 1, "toy", repeats=1, reference="none")["work"]
    tokens = work["engine_tokens"]
    blocks = 3  # of the toy tower
    width, dim = 32, 16
    expected = (blocks - 1) * 12 * width**2 * tokens + 2 * width**2 * tokens + 10 * width**2 + width * dim
    assert work["engine_gflop"] == pytest.approx(2e-9 * expected)


def test_fit_gives_the_same_losses_and_accuracy() -> None:
    result = bench_fit("emoji/activities", "toy", epochs=1, shots=1)
    assert result["steps"] == 32
    assert result["max_relative_loss_diff"] < 1e-4
    assert result["reference_correct"] == result["engine_correct"]


def test_features_agree() -> None:
    assert bench_features("emoji/food", "toy", images=5, repeats=1)["max_feature_diff"] < 1e-5


@pytest.mark.parametrize("train", [True, False])
def test_images_are_the_same_pixels(train: bool, tmp_path: Path) -> None:
    write_images(tmp_path, [f"{kind}/{number}.jpg" for kind in "ab" for number in range(3)])
    result = bench_images(tmp_path, images=4, train=train, workers=1, repeats=1)
    assert set(result["images_per_second"]) == {"loader_0", "loader_1", "ours", "ours_draft"}
    assert result["max_pixel_difference"] == (None if train else 0)


def test_ratios_are_of_medians() -> None:
    got = compare({"reference": [10.0, 12.0, 50.0], "engine": [1.0, 2.0, 3.0]}, floor_ratio=0.1)
    assert (got["ratio"], got["floor_share"], got["engine_max_s"]) == (6.0, pytest.approx(0.6), 3.0)


def test_impossible_numbers_of_classes() -> None:
    for count in (0, 1001):
        with pytest.raises(UsageError, match="between 1 and 1000"):
            class_names(count)


def test_precision_errors_shrink_with_the_bits() -> None:
    result = bench_precision("emoji/activities", "tiny-clip", "cpu", images=2)
    errors = [result[name]["mean_logit_error"] for name in ("fp32", "fp16", "bf16")]
    assert 0 < errors[0] < errors[1] < errors[2] < 1


@pytest.mark.parametrize(
    "name", [name for name in METHODS.names() if METHODS.get(name).facts.training == "closed form"]
)
def test_closed_forms_fit_and_select(name: str) -> None:
    selected = closed_form(load_backbone("toy"), name, classes=3, shots=2, held_back=1)()
    assert selected or METHODS.get(name).facts.sees_test_images  # which select on what they answer


def test_a_part_of_the_reference_is_scaled() -> None:
    result = bench_text(30, 2, "toy", repeats=1, reference="part")
    assert result["reference"] == "20 prompts, scaled"
    assert result["max_logit_diff"] < 1e-3
    assert result["memory"]["reference_mb"] > 0


def test_images_in_groups_have_the_gradient_of_the_batch() -> None:
    step = Step(load_backbone("toy"), class_names(12), batch=5, budget=10**6)
    assert step.classifier.encode_text.images_at_once(5) < 5
    torch.testing.assert_close(step.groups(), step.whole(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["maple", "promptsrc", "cocoop"])
def test_a_step_inside_the_image_tower_is_the_released_one(name: str) -> None:
    clip, images = load_backbone("toy"), 1 if METHODS.get(name).facts.conditional else 2
    ours, theirs = (towers.Step(clip, name, 5, images, None, released) for released in (False, True))
    torch.testing.assert_close(ours(), theirs(), rtol=1e-4, atol=1e-4)


def test_a_step_over_a_vocabulary_has_a_sample_of_it() -> None:
    clip = load_backbone("toy")
    names = made_up(clip, 50)
    assert (len(names), names) == (50, made_up(clip, 50))
    steps = Sampled(clip, names, size=6, batch=2)
    drawn = [steps.draw().classifier.class_names for _ in range(2)]
    assert [len(each) for each in drawn] == [6, 6]
    assert drawn[0] != drawn[1]
    steps()
    assert steps.step.method.ctx.grad is not None


def test_a_command_is_timed_until_its_first_line_and_its_end(tmp_path: Path) -> None:
    times = commands.measure(commands.HERE, ["--version"], tmp_path)
    assert 0 < times.first <= times.whole
    assert times.processors > 0
    with pytest.raises(RuntimeError, match=r"(?i)did you mean"):
        commands.measure(commands.HERE, ["list", "presets", "cocop"], tmp_path)


def test_drawings_are_written_into_shards_under_names_of_their_own(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards", images=7, size=3)
    shards = find_shards([str(tmp_path / "shards")])
    images = [image for shard in shards for image in shard.images()]
    assert [len(list(shard.images())) for shard in shards] == [3, 3, 1]
    assert len({path for path, _ in images}) == 7
    assert all(decode_photo(data).size == (64, 64) for _, data in images)


def test_the_studio_is_clicked_through(tmp_path: Path) -> None:
    names = studio.write_images(tmp_path / "images", 12)
    assert len(list((tmp_path / "images").glob("*.jpg"))) == 12
    assert len(set(names)) == len(names) > 1
    opened = Studio(open_folder(tmp_path / "images"), Options(tmp_path / "out", backbone="toy"))
    opened.start()
    with TestClient(make_app(opened, None), base_url="http://127.0.0.1") as client:
        page = Local(client)
        page.wait(studio.looked_at)
        studio.click(page, names[:2], 1, "now", random.Random(0))
        page.wait(studio.suggested)
    opened.stop()
    assert len(page.milliseconds) == 14
    assert all(len(each) == 1 for each in page.milliseconds.values())
    assert studio.percentile([3.0, 1.0, 2.0], 0.5) == 2.0


class Local(studio.Page):
    """A page that asks an application in this process."""

    def __init__(self, client: TestClient) -> None:
        self.milliseconds = {}
        self._client = client

    def ask(self, method: str, path: str, body: object = None, what: str = "") -> object:
        answer = self._client.request(method, path, json=body)
        assert answer.status_code == 200, answer.text
        if what:
            self.milliseconds.setdefault(what, []).append(0.0)
        return answer.json() if "json" in answer.headers["content-type"] else answer.content


def test_the_parts_of_a_view_and_both_ways_of_waiting_are_measured() -> None:
    parts = bench_views("toy", "emoji/activities", repeats=1)
    assert all(value > 0 for value in parts.values())
    assert "draw the view" in parts
    waits = bench_threads(busy=0, repeats=1)
    assert [len(found) for found in waits.values()] == [len(SIZES)] * 2
