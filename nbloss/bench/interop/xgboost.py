"""XGBoost: some rounds of boosting with the objective of nbloss, the built-in one, and the formula in NumPy. The result is the margins."""

import numpy as np
import xgboost

from nbloss.interop.boosting import xgboost_objective

from ..session import cpus
from .problem import BOOSTING, ROUNDS, softmax


def _boosted(p, objective=None):
    features, labels = p.table
    data = xgboost.DMatrix(features, labels.astype(np.float32))
    settings = BOOSTING | {"num_class": p.shape[1], "base_score": 0.5, "tree_method": "hist", "nthread": cpus(), "verbosity": 0}
    settings |= {"objective": "multi:softprob"} if objective is None else {}

    def run():
        booster = xgboost.train(settings, data, ROUNDS, obj=objective)
        return booster.predict(data, output_margin=True)

    return run


def nbloss(p):
    return _boosted(p, xgboost_objective())


def built_in(p):
    return _boosted(p)


def formula(p):
    one_hot = np.eye(p.shape[1], dtype=np.float32)[p.table[1]]

    def objective(margins, data):
        of_classes = softmax(margins)
        return of_classes - one_hot, np.maximum(2 * of_classes * (1 - of_classes), 1e-16)

    return _boosted(p, objective)
