"""Learn from half of the classes, then name images of the other half: what CoCoOp is for.

python examples/new_names.py
"""

import cocoop
from cocoop.backbones import ImageEncoder
from cocoop.data import select, subset_labels

clip = cocoop.load_backbone("tiny-clip")
data = cocoop.open_dataset("emoji/animals")
encoder = ImageEncoder(clip)


def subset(which, split):
    """Return the images of the base or the new classes."""
    return select(data.items(split), subset_labels(range(len(data.class_names)), which))


def names(items):
    """Return the class name of each image."""
    return [item.name for item in items]


train = subset("base", "train")
views = [encoder.train(data.root, train, epoch, seed=1) for epoch in range(10)]
for model in (cocoop.ZeroShot(clip), cocoop.CoOp(clip, epochs=10), cocoop.CoCoOp(clip, epochs=3)):
    model.fit_features(lambda epoch: views[epoch], names(train))
    for which in ("base", "new"):
        test = subset(which, "test")
        candidates = sorted(set(names(test)))
        answers = model.logits(encoder.test(data.root, test), candidates).argmax(1)
        right = sum(candidates[best] == item.name for best, item in zip(answers, test, strict=True))
        print(f"{model.method:9} {which:5} {right:3} of {len(test)} right")
