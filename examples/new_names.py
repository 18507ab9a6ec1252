"""Learn from half of the classes, then name images of the other half: what CoCoOp is for.

python examples/new_names.py          # embedded data and model, under a minute on two cores
"""

import cocoop
from cocoop.data.splits import half
from cocoop.features import ImageEncoder

clip = cocoop.load_backbone("tiny-clip")
data = cocoop.open_dataset("emoji/activities")
encode = ImageEncoder(clip)


def subset(which, split):
    """Image features and names of the base or new classes, the halves of the sorted names."""
    items = half(data.splits, which)[split]
    return encode.test(data.root, items), [item.name for item in items]


images, names = subset("base", "train")
for model in (cocoop.ZeroShot(clip), cocoop.CoOp(clip, epochs=10), cocoop.CoCoOp(clip, epochs=2)):
    model.fit_features(lambda epoch: images, names)
    for which in ("base", "new"):
        zimg, truth = subset(which, "test")
        candidates = sorted(set(truth))
        found = model.logits(zimg, candidates).argmax(1).tolist()
        right = sum(candidates[i] == name for i, name in zip(found, truth, strict=True))
        print(f"{model.method:9} {which:5} {right} of {len(truth)} right")
