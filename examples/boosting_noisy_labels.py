"""Gradient boosting on labels of which a third are wrong: label smoothing keeps LightGBM from believing them.

    python examples/boosting_noisy_labels.py          needs lightgbm and scikit-learn

Trees that learn wrong labels become sure of them. The held-out labels are as noisy as those that were learned: who has only
such labels sees a log loss that explodes. The accuracy against the true labels changes little, in either direction.
`--quick` takes 3 splits instead of 20.
"""

import sys

import lightgbm as lgb
import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

import nbloss.functional as F
from nbloss.interop.boosting import lightgbm_objective

NOISE, ROUNDS = 0.33, 200
SETTINGS = {"num_class": 3, "boost_from_average": False, "min_data_in_leaf": 5, "num_threads": 1, "verbosity": -1}
OBJECTIVES = {
    "built-in multiclass": "multiclass",
    "nbloss, the same loss": lightgbm_objective(),
    "nbloss, label_smoothing=0.2": lightgbm_objective(label_smoothing=0.2),
}


def corrupted(y, rng):
    """Labels of which a part is drawn anew among the wrong ones."""
    return np.where(rng.random(len(y)) < NOISE, (y + rng.integers(1, 3, len(y))) % 3, y)


def main():
    x, y = load_wine(return_X_y=True)
    results = {name: [] for name in OBJECTIVES}
    for split in range(3 if "--quick" in sys.argv else 20):
        rng = np.random.default_rng(split)
        train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.5, stratify=y, random_state=split)
        train_y, noisy_y = corrupted(train_y, rng), corrupted(test_y, rng)
        for name, objective in OBJECTIVES.items():
            model = lgb.train(SETTINGS | {"objective": objective}, lgb.Dataset(train_x, label=train_y), ROUNDS)
            margins = model.predict(test_x, raw_score=True)
            accuracy = (margins.argmax(1) == test_y).mean()
            results[name].append((F.cross_entropy(margins, noisy_y), F.cross_entropy(margins, test_y), accuracy))
    means = {name: np.mean(rows, axis=0) for name, rows in results.items()}
    print(f"{'':29}log loss, noisy labels   true labels   accuracy, true labels")
    for name, (noisy, true, accuracy) in means.items():
        print(f"{name:29}{noisy:22.3f}{true:14.3f}{accuracy:24.1%}")
    built_in, same, smoothed = means.values()
    resists = np.allclose(built_in, same) and smoothed[0] < built_in[0]
    print("smoothing resists the wrong labels" if resists else "smoothing did not help")
    return 0 if resists else 1


if __name__ == "__main__":
    sys.exit(main())
