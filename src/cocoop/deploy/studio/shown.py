"""What the page is told: the state, lists of images, groups, the evaluation; as JSON takes it."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from cocoop.data.own.rows import HELD_OUT
from cocoop.deploy.studio.learned import Learned, Score
from cocoop.deploy.studio.listing import VIEWS, Images, Wanted, listed
from cocoop.deploy.studio.save import WHAT
from cocoop.deploy.studio.studio import Studio
from cocoop.methods import facts_of


def state(studio: Studio) -> dict[str, Any]:
    """Return how everything stands."""
    with studio.lock:
        folder, features, found, options = studio.folder, studio.features, studio.found, studio.options
        images, training = studio.images(), studio.training
        done, undone = folder.done, folder.undone
        return {
            "folder": str(folder.root),
            "out": str(options.out),
            "version": studio.version,
            "busy": studio.busy,
            "images": len(folder.ids),
            "labelled": int((folder.labels >= 0).sum()),
            "unreadable": len(images.unreadable),
            "read_only": folder.read_only,
            "notes": folder.notes,
            "names": _names(studio, images),
            "features": {
                "done": int(features.known.sum()) if features else 0,
                "total": len(folder.ids) - len(images.unreadable),
                "eta": features.eta if features else None,
                "error": features.error if features else "",
            },
            "backbone": {
                "name": features.backbone.name if features else "",
                "loading": studio.waiting,
                "doing": studio.loading.doing if studio.waiting else "",
                "warning": studio.loading.warning,
                "error": studio.loading.error,
            },
            "suggestions": {"by": found.by, "why": found.why},
            "counts": {view: len(listed(Wanted(view), images)) for view in VIEWS},
            "training": training.progress.as_json() if training else None,
            "model": _model(studio, studio.learned) if studio.learned else None,
            "can_train": studio.can_train(),
            "can_undo": bool(done),
            "can_redo": bool(undone),
            "undo": done[-1].words if done else "",
            "redo": undone[-1].words if undone else "",
            "saved": {
                what: studio.saves.done[what].path if what in studio.saves.done else "" for what in WHAT
            },
            "predict": studio.saves.done["model"].command if "model" in studio.saves.done else "",
            "limits": {
                "upload_bytes": options.limits.request_bytes,
                "upload_files": options.limits.images,
                "names": options.limits.classes,
                "name_length": options.limits.name_length,
            },
            "held_out_share": HELD_OUT,
        }


def images(studio: Studio, wanted: Wanted, offset: int, count: int) -> dict[str, Any]:
    """Return a part of the list of wanted images."""
    with studio.lock:
        about = studio.images()
        places = listed(wanted, about)
        part = places[offset : offset + count].tolist()
        head = {"version": studio.version, "view": wanted.view, "offset": offset, "total": len(places)}
        return {**head, "items": [_item(studio, about, place) for place in part]}


def some(studio: Studio, places: Sequence[int]) -> dict[str, Any]:
    """Return images in an order that was asked for."""
    with studio.lock:
        about = studio.images()
        return {"version": studio.version, "items": [_item(studio, about, place) for place in places]}


def groups(studio: Studio) -> dict[str, Any]:
    """Return all groups, the largest first."""
    with studio.lock:
        about, found, ids = studio.images(), studio.found, studio.folder.ids
        group, best = about.group(), about.best()
        size = len(found.members)
        counts = np.bincount(group[group >= 0], minlength=size)
        free = np.bincount(group[(group >= 0) & (about.labels < 0)], minlength=size)
        listed = []
        for each, members in enumerate(found.members):
            inside = (group == each) & (best >= 0)
            listed.append(
                {
                    "group": each,
                    "count": int(counts[each]),
                    "unlabelled": int(free[each]),
                    "ids": [ids[place] for place in members.tolist()],
                    "suggestion": _most(about, best[inside]),
                }
            )
        return {"version": studio.version, "groups": listed}


def evaluation(studio: Studio) -> dict[str, Any]:
    """Return how good the model and zero-shot CLIP are on the held-out images, by their labels now."""
    with studio.lock:
        about, model = studio.images(), studio.learned
        assert model is not None
        right, zero = studio.scores()
        size = len(model.classes)
        known = about.truth >= 0
        truth, answers, zeros = (each[known] for each in (about.truth, model.answers, model.zero_shot))
        counts = np.zeros((size, size), int)
        np.add.at(counts, (truth, answers), 1)
        per_class = [
            {
                "name": name,
                "images": int((truth == each).sum()),
                "correct": int(counts[each, each]),
                "zero_shot": int(((truth == each) & (zeros == each)).sum()),
            }
            for each, name in enumerate(model.classes)
        ]
        return {
            "held_out": right.total,
            **_score(right),
            "zero_shot": _score(zero),
            "share": HELD_OUT,
            "per_class": per_class,
            "confusion": {"names": list(model.classes), "counts": counts.tolist()},
        }


def _names(studio: Studio, about: Images) -> list[dict[str, Any]]:
    folder, found = studio.folder, studio.found
    size = len(folder.names)
    counts = np.bincount(about.labels[about.labels >= 0], minlength=size)
    best = about.best()
    suggested = np.bincount(best[(best >= 0) & (about.labels < 0)], minlength=size)
    return [
        {
            "name": each.name,
            "phrases": list(each.others),
            "count": int(counts[place]),
            "suggested": int(suggested[place]),
            "problem": found.problems.get(each.name, ""),
        }
        for place, each in enumerate(folder.names)
    ]


def _model(studio: Studio, learned: Learned) -> dict[str, Any]:
    right, zero = studio.scores()
    info, words = learned.model.info_, studio.folder.words()
    return {
        "method": learned.model.method,
        "title": facts_of(learned.model.method).name,
        "preset": learned.model.preset,
        "images": len(learned.train),
        "classes": list(learned.classes),
        "seconds": info.seconds,
        "held_out": right.total,
        **_score(right),
        "zero_shot": zero.accuracy,
        "zero_shot_interval": zero.interval,
        "new_names": [word for word in words if word not in learned.classes],
        "missing": [name for name in learned.classes if name not in words],
        "stale": studio.stale(),
        "open": learned.open,
    }


def _score(score: Score) -> dict[str, Any]:
    return {"correct": score.correct, "accuracy": score.accuracy, "interval": score.interval}


def _item(studio: Studio, about: Images, place: int) -> dict[str, Any]:
    folder, found = studio.folder, studio.found
    label, problems = int(about.labels[place]), studio.features.problems if studio.features else {}
    there = place < len(found.tops.unsure) and found.tops.places[place, 0] >= 0
    group = int(found.group[place]) if place < len(found.group) else -1
    suggestion = []
    if there:
        pairs = zip(found.tops.places[place].tolist(), found.tops.chances[place].tolist(), strict=True)
        suggestion = [{"name": found.names[each].name, "p": chance} for each, chance in pairs]
    return {
        "id": folder.ids[place],
        "path": folder.paths[place],
        "name": PurePosixPath(folder.paths[place]).name,
        "label": about.words[label] if label >= 0 else None,
        "suggestion": suggestion,
        "unsure": float(found.tops.unsure[place]) if there else None,
        "group": group if group >= 0 else None,
        "held_out": place in studio.held,
        "problem": problems.get(place, ""),
    }


def _most(about: Images, best: np.ndarray) -> dict[str, Any] | None:
    """Return the name that is suggested for most images of a group, and for which share of them."""
    if not len(best):
        return None
    counts = np.bincount(best)
    most = int(counts.argmax())
    return {"name": about.words[most], "p": float(counts[most] / len(best))}
