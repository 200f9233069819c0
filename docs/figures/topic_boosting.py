"""Draw the log loss of LightGBM over its rounds on labels of which a third are wrong, with and without label smoothing.

python docs/figures/topic_boosting.py          needs lightgbm, scikit-learn and matplotlib; writes topic_boosting.svg
"""

import lightgbm as lgb
import numpy as np
from canvas import panels, save
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from topics import BLUE, RED

import nbloss.functional as F
from examples.boosting_noisy_labels import ROUNDS, SETTINGS, corrupted
from nbloss.interop.boosting import lightgbm_objective

SPLITS, STEP = 5, 10
OBJECTIVES = (("built-in multiclass", "multiclass", RED), ("label_smoothing=0.2", lightgbm_objective(label_smoothing=0.2), BLUE))


def main():
    x, y = load_wine(return_X_y=True)
    rounds = range(STEP, ROUNDS + 1, STEP)
    found = np.zeros((len(OBJECTIVES), SPLITS, len(rounds), 2))
    for split in range(SPLITS):
        rng = np.random.default_rng(split)
        train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.5, stratify=y, random_state=split)
        train_y, noisy_y = corrupted(train_y, rng), corrupted(test_y, rng)
        for k, (_, objective, _) in enumerate(OBJECTIVES):
            model = lgb.train(SETTINGS | {"objective": objective}, lgb.Dataset(train_x, label=train_y), ROUNDS)
            for column, count in enumerate(rounds):
                margins = model.predict(test_x, raw_score=True, num_iteration=count)
                found[k, split, column] = F.cross_entropy(margins, noisy_y), 100 * (margins.argmax(1) == test_y).mean()
    figure, axes = panels(2)
    for one, part, label in zip(axes, (0, 1), ("log loss, noisy labels", "accuracy, true labels, %"), strict=True):
        for k, (name, _, colour) in enumerate(OBJECTIVES):
            one.plot(rounds, found[k, :, :, part].mean(0), color=colour, label=name)
        one.set(xlabel="rounds", ylim=(0, None) if part == 0 else (50, 100))
        one.set_title(label)
    axes[0].legend()
    save(figure, "topic_boosting")


if __name__ == "__main__":
    main()
