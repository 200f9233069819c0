"""LightGBM: some rounds of boosting with the objective of nbloss, the built-in one, and the formula in NumPy. The result is the margins."""

import lightgbm
import numpy as np

from nbloss.interop.boosting import lightgbm_objective

from ..session import cpus
from .problem import BOOSTING, ROUNDS, softmax


def _boosted(p, objective="multiclass"):
    features, labels = p.table
    data = lightgbm.Dataset(features, labels, free_raw_data=False)
    settings = BOOSTING | {
        "objective": objective,
        "num_class": p.shape[1],
        "boost_from_average": False,
        "num_threads": cpus(),
        "verbose": -1,
    }

    def run():
        booster = lightgbm.train(settings, data, ROUNDS)
        return booster.predict(features, raw_score=True)

    return run


def nbloss(p):
    return _boosted(p, lightgbm_objective())


def built_in(p):
    return _boosted(p)


def formula(p):
    classes = p.shape[1]
    one_hot = np.eye(classes)[p.table[1]]

    def objective(margins, data):
        of_classes = softmax(margins)
        return of_classes - one_hot, classes / (classes - 1) * of_classes * (1 - of_classes)

    return _boosted(p, objective)
