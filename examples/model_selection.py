"""Choose a setting by cross-validation: the classifiers follow scikit-learn's conventions.

python examples/model_selection.py          # needs scikit-learn
"""

from sklearn.model_selection import GridSearchCV

import cocoop
from cocoop.data import open_image

data = cocoop.open_dataset("emoji/activities")
items = [item for split in ("train", "test") for item in data.items(split) if item.label < 8]
images = [open_image(data.root, item.path) for item in items]
names = [item.name for item in items]

settings = [{"ctx_init": "a photo of a"}, {"ctx_init": "a flat emoji of a"}]
search = GridSearchCV(cocoop.CoOp("tiny-clip", epochs=2), {"settings": settings}, cv=2)
search.fit(images, names)
for params, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
    print(f"{params['settings']['ctx_init']!r:22} {score:.1%}")
print("best:", search.best_params_["settings"])
