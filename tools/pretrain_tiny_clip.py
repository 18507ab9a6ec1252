"""Pre-train the small CLIP on icons and emoji, or distil its image tower into a vision transformer.

Resumable, and exportable at any checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from augment import AugmentSettings
from corpus import Corpus, MixSettings
from open_clip.model import CLIP
from open_clip.transform import PreprocessCfg, image_transform_v2
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from tiny_clip import (
    CONFIG,
    MAX_LOG_SCALE,
    apart,
    build_model,
    build_student,
    cut_padding,
    encode_short_text,
    export,
    export_student,
    multi_positive_loss,
    normaliser,
)
from torch import Tensor
from zero_shot import ASSETS, Group, accuracy, load_groups

REPORT_EVERY = 50  # steps between lines of the log
# Few-shot training crops its images hard; the second stage teaches the image tower such views.
SECOND_STAGE = (MixSettings(emoji_photos=False), AugmentSettings(crops=0.5))
PULL = 10.0  # weight of the distance to the teacher's features, beside CLIP's loss
WATCHED = ("a photo of a {}.", "a color emoji of a {}.")


@dataclass(frozen=True)
class TrainSettings:
    """The schedule of the run."""

    steps: int = 2000
    batch: int = 512
    rate: float = 1.5e-3
    warmup: int = 150
    decay: float = 0.1
    seed: int = 0
    save_every: int = 200
    judge_every: int = 400


class Trainer:
    """Model, optimizer and random state: everything a checkpoint holds."""

    def __init__(
        self,
        settings: TrainSettings,
        corpus: Corpus,
        device: torch.device,
        bf16: bool,
        teacher: CLIP | None = None,
    ) -> None:
        self.settings, self.corpus, self.device, self.bf16 = settings, corpus, device, bf16
        seed = settings.seed
        model = build_student(teacher, seed) if teacher else build_model(seed)
        self.model = model.to(device, memory_format=torch.channels_last)
        self.teacher = teacher.eval().to(device, memory_format=torch.channels_last) if teacher else None
        groups = _groups(self.model, settings.decay)
        self.optimizer = torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98))
        self.rng = np.random.default_rng(settings.seed)
        self.torch_rng = torch.Generator().manual_seed(settings.seed)
        length = CONFIG["model_cfg"]["text_cfg"]["context_length"]
        self.tokenizer = open_clip.SimpleTokenizer(context_length=length)
        self.mean, self.std = normaliser()
        self.step = 0
        self.history: list[dict[str, Any]] = []

    def rate(self) -> float:
        """Linear warm-up, then a half cosine to nearly nothing."""
        s = self.settings
        if self.step < s.warmup:
            return s.rate * (self.step + 1) / s.warmup
        done = (self.step - s.warmup) / max(1, s.steps - s.warmup)
        return s.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))

    def train_step(self) -> float:
        """One optimizer step on a fresh batch; its loss."""
        self.model.train()
        batch = self.corpus.sample(self.settings.batch, self.rng, self.torch_rng)
        pixels = ((batch.images - self.mean) / self.std).to(self.device, memory_format=torch.channels_last)
        tokens = cut_padding(self.tokenizer(batch.captions)).to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            images = self.model.encode_image(pixels)
            texts = encode_short_text(self.model, tokens)
        images = torch.nn.functional.normalize(images.float(), dim=-1)
        names = batch.names.to(self.device)
        loss = multi_positive_loss(images, texts.float(), names, self.model.logit_scale.exp())
        if self.teacher is not None:
            loss = loss + PULL * apart(images, self.aims(pixels))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, MAX_LOG_SCALE)
        self.step += 1
        return loss.item()

    @torch.no_grad()
    def aims(self, pixels: Tensor) -> Tensor:
        """The teacher's features of the same views."""
        assert self.teacher is not None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return self.teacher.encode_image(pixels).float()

    def save(self, path: Path) -> None:
        """Replace the checkpoint in one move, so that a crash leaves the last one whole."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "numpy": self.rng.bit_generator.state,
            "torch": self.torch_rng.get_state(),
            "settings": asdict(self.settings),
            "history": self.history,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, path)

    def load(self, path: Path) -> None:
        """Go on where a checkpoint stopped, with the same settings; `steps` may move the schedule's end."""
        state = torch.load(path, map_location=self.device, weights_only=False)
        if state["settings"] | {"steps": self.settings.steps} != asdict(self.settings):
            raise SystemExit(f"{path} was made with other settings: {state['settings']}")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.history = state["step"], state["history"]
        self.rng.bit_generator.state = state["numpy"]
        self.torch_rng.set_state(state["torch"].cpu())

    def report(self, losses: list[float], speed: float, groups: list[Group]) -> dict[str, Any]:
        """One line of the history: mean loss, samples a second, and now and then zero-shot accuracy."""
        settings = self.settings
        entry = {"step": self.step, "loss": float(np.mean(losses)), "samples_s": speed}
        entry["scale"] = self.model.logit_scale.exp().item()
        if self.step % settings.judge_every == 0 or self.step == settings.steps:
            entry |= self.judge(groups)
        self.history.append(entry)
        return entry

    def judge(self, groups: list[Group]) -> dict[str, Any]:
        """Zero-shot means over the groups, with the watched templates."""
        self.model.eval()
        where = self.device
        found = accuracy(self.model.cpu(), self.tokenizer, groups, WATCHED)
        self.model.to(where)
        return {part: {t: round(e["mean"], 2) for t, e in by.items()} for part, by in found.items()}


def _groups(model: torch.nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices only."""
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim >= 2]
    others = [p for p in trained if p.ndim < 2]
    return [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def run(trainer: Trainer, checkpoint: Path, groups: list[Group]) -> None:
    """Train to the last step, saving and judging on the way."""
    settings = trainer.settings
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), refresh_per_second=0.2) as progress:
        task = progress.add_task("pre-training", total=settings.steps, completed=trainer.step)
        losses: list[float] = []
        since = time.perf_counter()
        while trainer.step < settings.steps:
            losses.append(trainer.train_step())
            progress.update(task, advance=1, description=f"loss {losses[-1]:.3f}")
            last = trainer.step == settings.steps
            if trainer.step % REPORT_EVERY == 0 or last:
                speed = settings.batch * len(losses) / (time.perf_counter() - since)
                entry = trainer.report(losses, speed, groups)
                progress.console.print(json.dumps(entry), soft_wrap=True)
                losses, since = [], time.perf_counter()
            if trainer.step % settings.save_every == 0 or last:
                trainer.save(checkpoint)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help="folder written by render_corpus.py")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=ASSETS / "emoji-styles")
    parser.add_argument("--steps", type=int, default=TrainSettings.steps)
    parser.add_argument("--batch", type=int, default=TrainSettings.batch)
    parser.add_argument("--rate", type=float, default=TrainSettings.rate, help="peak learning rate")
    parser.add_argument("--start", type=Path, help="first stage's checkpoint: run the second stage from it")
    parser.add_argument(
        "--teacher", type=Path, help="folder of tiny-clip: distil it into a vision transformer"
    )
    parser.add_argument("--seed", type=int, default=TrainSettings.seed)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 arithmetic in both towers")
    parser.add_argument("--export", type=Path, help="write the checkpoint's weights to this folder and stop")
    args = parser.parse_args()
    if args.export:
        state = torch.load(args.checkpoint, map_location="cpu", weights_only=False)["model"]
        (export_student if args.teacher else export)(state, args.export)
        return
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.enable_flash_sdp(device.type == "cuda")  # on a CPU plain attention is twice as fast
    settings = TrainSettings(steps=args.steps, batch=args.batch, rate=args.rate, seed=args.seed)
    teacher = open_clip.create_model(f"local-dir:{args.teacher}") if args.teacher else None
    second = args.start is not None
    look = SECOND_STAGE if second or teacher else (MixSettings(), AugmentSettings())
    trainer = Trainer(settings, Corpus(args.corpus, *look), device, args.bf16, teacher)
    if args.checkpoint.exists():
        trainer.load(args.checkpoint)
    elif second:
        trainer.model.load_state_dict(
            torch.load(args.start, map_location=device, weights_only=False)["model"]
        )
    config = PreprocessCfg(size=48, **CONFIG["preprocess_cfg"])
    run(trainer, args.checkpoint, load_groups(args.data, image_transform_v2(config, is_train=False)))


if __name__ == "__main__":
    main()
