"""Cross entropy and focal loss as custom objectives of XGBoost and LightGBM."""

from importlib import import_module

import numpy as np

from nbloss import functional as F
from nbloss._docstrings import documented

__all__ = ["lightgbm_objective", "xgboost_objective"]

ENTRIES = {
    "label_smoothing": """\
label_smoothing : float in [0, 1], default 0.0
    The part of each label that is spread evenly over all classes.""",
    "weight": """\
weight : array_like, shape (C,), optional
    Class weights, which multiply the sample weights.""",
    "ignore_index": """\
ignore_index : int, default -100
    Rows with this label do not count.""",
    "gamma": """\
gamma : float, optional
    The focal loss with this gamma, a finite number, at least 0, in place of the cross entropy. It takes no ``label_smoothing``.""",
    "returns": """\
callable
    ``objective(margins, data)`` of the native interface, and ``objective(y_true, y_pred, sample_weight=None)`` of scikit-learn's: its
    arguments say which. It returns the first and second derivatives in the layout of the margins, and can be pickled.""",
    "raises": """\
Raises
------
ImportError
    If the library is not installed.
IndexError
    At a call: if a label is neither in [0, C) nor ``ignore_index``.
TypeError, ValueError
    If an option is not of its type, or outside its range. At a call: if a label is no whole number, or shapes do not fit.""",
    "notes": """\
p is the softmax of the margins, C the number of their columns, and M the total target weight of a row: for plain labels, sample weight
times class weight. A single column is the margin of class 1 against class 0, and has the factor 1.

The first derivative is `nbloss.functional.cross_entropy_backward` or `focal_loss_backward`, with ``reduction="sum"``. The focal loss also
has f = r^gamma + gamma * r^(gamma - 1) * p_y * (-log p_y) beside M, where y is the label and r = 1 - p_y: its first derivative is f times
that of the cross entropy. The second one takes f as a constant, because the derivative of f can make it negative.""",
}


@documented(**ENTRIES)
def xgboost_objective(*, label_smoothing=0.0, weight=None, ignore_index=-100, gamma=None):
    """Cross entropy or focal loss for ``xgboost.train(obj=...)`` and ``XGBClassifier(objective=...)``.

    The second derivative is max(2 * M * p * (1 - p), 1e-16), as that of XGBoost's own objective.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns)s

    %(raises)s

    Notes
    -----
    %(notes)s

    Examples
    --------
    >>> import numpy as np
    >>> from nbloss.interop.boosting import xgboost_objective
    >>> grad, hess = xgboost_objective(label_smoothing=0.1)(np.array([0.0]), np.zeros((1, 2), np.float32))  # y_true, y_pred
    >>> grad, hess
    (array([[-0.45,  0.45]], dtype=float32), array([[0.5, 0.5]], dtype=float32))
    """
    return _Objective("xgboost", label_smoothing, weight, ignore_index, gamma)


@documented(**ENTRIES)
def lightgbm_objective(*, label_smoothing=0.0, weight=None, ignore_index=-100, gamma=None):
    """Cross entropy or focal loss for ``lightgbm.train({"objective": ...})`` and ``LGBMClassifier(objective=...)``.

    The second derivative is C / (C - 1) * M * p * (1 - p), as that of LightGBM's own objective.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    %(returns)s

    %(raises)s

    Notes
    -----
    %(notes)s

    Examples
    --------
    >>> import numpy as np
    >>> from nbloss.interop.boosting import lightgbm_objective
    >>> lightgbm_objective(label_smoothing=0.1)(np.array([0.0]), np.zeros((1, 2)))  # y_true, y_pred
    (array([[-0.45,  0.45]]), array([[0.5, 0.5]]))
    """
    return _Objective("lightgbm", label_smoothing, weight, ignore_index, gamma)


class _Objective:
    """An objective: the options, and the library, whose factor the second derivatives get."""

    def __init__(self, library, label_smoothing, weight, ignore_index, gamma):
        try:
            import_module(library)
        except ImportError as error:
            raise ImportError(f'nbloss.interop.boosting.{library}_objective needs {library}: pip install "nbloss[boosting]"') from error
        if gamma is not None and label_smoothing != 0:
            raise ValueError(f"label_smoothing should be 0 with gamma, because the focal loss has none; got {label_smoothing!r}")
        self.library, self.gamma = library, gamma
        self.options = {"weight": weight, "ignore_index": ignore_index, "reduction": "sum"}
        if gamma is None:
            self.options["label_smoothing"] = label_smoothing
        classes, dtype = 2 if weight is None else np.size(weight), np.float32 if library == "xgboost" else np.float64
        self(np.zeros(1), np.zeros((1, classes), dtype))  # raises the errors of the options

    def __repr__(self):
        options = self.options | {"gamma": self.gamma}
        del options["reduction"]
        return f"{self.library}_objective({', '.join(f'{name}={value!r}' for name, value in options.items())})"

    def __call__(self, y_true, y_pred, sample_weight=None):
        if hasattr(y_pred, "get_label"):  # the native interface: margins, data
            y_true, y_pred, sample_weight = y_pred.get_label(), y_true, y_pred.get_weight()
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight) if np.size(sample_weight) else None  # empty: a DMatrix without weights
        labels, single = _class_numbers(np.asarray(y_true)), y_pred.ndim == 1 or y_pred.shape[1] == 1
        if single:
            y_pred = np.stack([np.zeros_like(y_pred.ravel()), y_pred.ravel()], axis=1)
        results = self._derivatives(y_pred, labels, sample_weight, single)
        return tuple([result[:, 1] for result in results]) if single else results

    def _derivatives(self, x, y, sample_weight, single):
        classes = x.shape[1]
        factor = 1.0 if single else 2.0 if self.library == "xgboost" else classes / (classes - 1)
        if self.gamma is None:
            grad = F.cross_entropy_backward(1.0, x, y, sample_weight=sample_weight, **self.options)
        else:
            grad = F.focal_loss_backward(1.0, x, y, sample_weight=sample_weight, gamma=self.gamma, **self.options)
            modulation = _modulation(F.cross_entropy_stats(x, y, ignore_index=self.options["ignore_index"]).log_prob, self.gamma)
            sample_weight = modulation if sample_weight is None else modulation * sample_weight
        hess = F.cross_entropy_hessian_diag(x, y, sample_weight=sample_weight, grad_output=factor, **self.options)
        return grad, np.maximum(hess, 1e-16, out=hess) if self.library == "xgboost" else hess


def _modulation(log_p, gamma):
    """What the focal loss multiplies the gradient of the cross entropy by."""
    rest = -np.expm1(log_p)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(rest == 0, 1.0, -log_p / rest)
        return rest**gamma * (1 + gamma * np.where(log_p == -np.inf, 0.0, np.exp(log_p) * ratio))


def _class_numbers(labels):
    """Labels, which these libraries keep as floats, as integers."""
    with np.errstate(invalid="ignore"):
        numbers = labels.astype(np.int64)
    odd = numbers != labels
    if odd.any():
        index = int(odd.argmax())
        raise ValueError(f"labels should be whole numbers, the numbers of classes; got {labels[index]} at index {index}")
    return numbers
