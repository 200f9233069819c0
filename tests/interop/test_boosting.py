"""nbloss.interop.boosting: models like those of the built-in objectives, laws of weights and ignored rows, and the oracle."""

import copy
import pickle
import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose, assert_array_equal

import nbloss.functional as F
from nbloss.interop import boosting

LIBRARIES = ["xgboost", "lightgbm"]
every_library = pytest.mark.parametrize("library", LIBRARIES)
C, ROUNDS = 4, 8


class XGBoost:
    """XGBoost's native interface."""

    def __init__(self):
        self.lib, self.objective = pytest.importorskip("xgboost"), boosting.xgboost_objective

    def margins(self, x, y, objective=None, sample_weight=None, classes=C, at=None):
        name = {"objective": "multi:softprob", "num_class": classes} if classes else {"objective": "binary:logistic"}
        params = name | {"base_score": 0.5, "nthread": 1, "max_depth": 3}
        model = self.lib.train(params, self.lib.DMatrix(x, label=y, weight=sample_weight), ROUNDS, obj=objective)
        return model.predict(self.lib.DMatrix(x if at is None else at), output_margin=True)

    def layout(self, margins):
        return np.ascontiguousarray(margins, np.float32)

    def factor(self, classes):
        return 2.0


class LightGBM:
    """LightGBM's native interface."""

    def __init__(self):
        self.lib, self.objective = pytest.importorskip("lightgbm"), boosting.lightgbm_objective

    def margins(self, x, y, objective=None, sample_weight=None, classes=C, at=None):
        name = {"objective": objective or ("multiclass" if classes else "binary"), "num_class": classes or 1}
        params = {
            "boost_from_average": False,
            "num_threads": 1,
            "verbosity": -1,
            "max_depth": 3,
            "min_data_in_leaf": 0,
            "min_data_in_bin": 1,
        }
        model = self.lib.train(params | name, self.lib.Dataset(x, label=y, weight=sample_weight), ROUNDS)
        return model.predict(x if at is None else at, raw_score=True)

    def layout(self, margins):
        return np.asfortranarray(margins, np.float64)

    def factor(self, classes):
        return classes / (classes - 1)


@pytest.fixture
def booster(library):
    return {"xgboost": XGBoost, "lightgbm": LightGBM}[library]()


@pytest.fixture
def table(rng):
    """Features of few values, so that both libraries split between all of them, and labels."""
    x = rng.integers(0, 8, (400, 5)).astype(np.float32)
    return x, (x[:, 0] + rng.integers(0, 4, 400)).astype(np.int64) % C


def assert_same_margins(library, ours, theirs):
    if library == "lightgbm":
        assert_array_equal(ours, theirs)
    else:
        assert_allclose(ours, theirs, rtol=0, atol=1e-6)  # float32 margins of size 2


# ---- models ----------------------------------------------------------------------------------------------------------


@every_library
@pytest.mark.parametrize("weighted", [False, True])
def test_margins_are_those_of_the_built_in_objective(library, booster, table, weighted, rng):
    x, y = table
    sample_weight = rng.uniform(0.5, 2, len(y)).astype(np.float32) if weighted else None
    theirs = booster.margins(x, y, sample_weight=sample_weight)
    ours = booster.margins(x, y, booster.objective(), sample_weight)
    assert np.abs(theirs).max() > 0.5
    assert_same_margins(library, ours, theirs)


@every_library
def test_one_margin_is_that_of_the_binary_objective(library, booster, table):
    x, y = table
    theirs = booster.margins(x, y > 1, classes=None)
    assert_same_margins(library, booster.margins(x, y > 1, booster.objective(), classes=None), theirs)


@every_library
@pytest.mark.parametrize("options", [{"label_smoothing": 0.1}, {"gamma": 2.0}], ids=str)
def test_weights_count_as_copies_of_rows(booster, table, options, rng):
    x, y = table
    times = rng.integers(0, 3, len(y))
    weighted = booster.margins(x, y, booster.objective(**options), times)
    repeated = booster.margins(x.repeat(times, 0), y.repeat(times), booster.objective(**options), at=x)
    assert_allclose(weighted, repeated, rtol=1e-5, atol=1e-5)
    per_class = np.array([1.0, 2, 0, 1])
    by_class = booster.margins(x, y, booster.objective(weight=per_class, gamma=2.0))
    by_sample = booster.margins(x, y, booster.objective(gamma=2.0), per_class[y])
    assert_allclose(by_class, by_sample, rtol=1e-5, atol=1e-5)


@every_library
@pytest.mark.parametrize("ignore_index", [-100, 3])
def test_ignored_rows_have_no_effect(booster, table, ignore_index):
    x, y = table
    y[::5] = ignore_index
    kept = y != ignore_index
    objective = booster.objective(ignore_index=ignore_index, label_smoothing=0.1)
    with_them = booster.margins(x, y, objective)
    assert_allclose(with_them, booster.margins(x[kept], y[kept], objective, at=x), rtol=1e-5, atol=1e-5)


def test_early_stopping_of_xgboost(table):
    xgboost = pytest.importorskip("xgboost")
    x, y = table
    train, valid = xgboost.DMatrix(x[:300], label=y[:300]), xgboost.DMatrix(x[300:], label=y[300:])
    params = {"objective": "multi:softprob", "num_class": C, "base_score": 0.5, "nthread": 1}
    ours, theirs = {}, {}
    for result, objective in ((ours, boosting.xgboost_objective()), (theirs, None)):
        model = xgboost.train(
            params, train, 300, obj=objective, evals=[(valid, "valid")], evals_result=result, early_stopping_rounds=3, verbose_eval=False
        )
        assert model.best_iteration < 290
    assert_allclose(ours["valid"]["mlogloss"], theirs["valid"]["mlogloss"], rtol=1e-5)
    assert_allclose(model.predict(valid).sum(1), 1, rtol=1e-6)  # probabilities: the name of the built-in objective is in the parameters


def test_early_stopping_of_lightgbm(table):
    lightgbm = pytest.importorskip("lightgbm")
    x, y = table
    train = lightgbm.Dataset(x[:300], label=y[:300])
    valid = lightgbm.Dataset(x[300:], label=y[300:], reference=train)

    def metric(margins, data):
        return "cross_entropy", F.cross_entropy(margins, data.get_label().astype(int)), False

    params = {"num_class": C, "verbosity": -1, "num_threads": 1, "boost_from_average": False}
    ours, theirs = {}, {}
    for result, objective, feval in ((ours, boosting.lightgbm_objective(), metric), (theirs, "multiclass", None)):
        callbacks = [lightgbm.early_stopping(3, verbose=False), lightgbm.record_evaluation(result)]
        chosen = params | {"objective": objective, "metric": "None" if feval else "multi_logloss"}
        model = lightgbm.train(chosen, train, 300, valid_sets=[valid], feval=feval, callbacks=callbacks)
        assert model.best_iteration < 290
    assert_allclose(ours["valid_0"]["cross_entropy"], theirs["valid_0"]["multi_logloss"], rtol=1e-12)


# ---- scikit-learn's interface ----------------------------------------------------------------------------------------


def test_the_classifier_of_xgboost(table, rng):
    xgboost, base = pytest.importorskip("xgboost"), pytest.importorskip("sklearn.base")
    x, y = table
    sample_weight = rng.uniform(0.5, 2, len(y))
    options = {"n_estimators": ROUNDS, "max_depth": 3, "base_score": 0.5, "n_jobs": 1}
    ours = base.clone(xgboost.XGBClassifier(objective=boosting.xgboost_objective(), **options)).fit(x, y, sample_weight=sample_weight)
    theirs = xgboost.XGBClassifier(**options).fit(x, y, sample_weight=sample_weight)
    assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), rtol=2e-5)
    assert_array_equal(ours.predict(x), theirs.predict(x))
    again = pickle.loads(pickle.dumps(ours))
    assert_array_equal(again.predict_proba(x), ours.predict_proba(x))
    assert again.objective.options == ours.objective.options


def test_the_classifier_of_lightgbm(table, rng):
    lightgbm, base = pytest.importorskip("lightgbm"), pytest.importorskip("sklearn.base")
    x, y = table
    sample_weight = rng.uniform(0.5, 2, len(y))
    options = {"n_estimators": ROUNDS, "boost_from_average": False, "n_jobs": 1, "verbosity": -1}
    names = np.array(list("abcd"))
    ours = base.clone(lightgbm.LGBMClassifier(objective=boosting.lightgbm_objective(), **options)).fit(x, names[y], sample_weight)
    theirs = lightgbm.LGBMClassifier(**options).fit(x, names[y], sample_weight)
    ours = pickle.loads(pickle.dumps(ours))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that these are margins
        margins = ours.predict_proba(x)
    assert_allclose(F.softmax(margins), theirs.predict_proba(x), rtol=1e-5)
    assert_array_equal(ours.classes_[margins.argmax(1)], theirs.predict(x))


# ---- derivatives -----------------------------------------------------------------------------------------------------


def call(booster, objective, margins, y, sample_weight):
    return objective(y.astype(np.float32), booster.layout(margins), sample_weight)


@every_library
@pytest.mark.parametrize("classes", [2, 5, 60])
def test_derivatives_of_the_cross_entropy_are_those_of_the_oracle(library, booster, classes, rng):
    x, y = rng.standard_normal((30, classes)) * 3, rng.integers(0, classes, 30)
    y[3] = -7
    options = {"label_smoothing": 0.2, "weight": rng.uniform(0.5, 2, classes), "ignore_index": -7}
    sample_weight = rng.uniform(0.5, 2, 30)
    x = booster.layout(x)
    grad, hess = call(booster, booster.objective(**options), x, y, sample_weight)
    told = options | {"reduction": "sum", "sample_weight": sample_weight}
    rtol = 1e-12 if x.dtype == np.float64 else 2e-6
    assert_allclose(grad, reference.cross_entropy_backward(1.0, x, y, **told).astype(float), rtol=rtol, atol=rtol)
    exact = np.array(booster.factor(classes) * reference.cross_entropy_hessian_diag(x, y, **told), float)
    assert_allclose(hess, np.maximum(exact, 1e-16) if library == "xgboost" else exact, rtol=10 * rtol)
    for result in (grad, hess):
        assert (result.dtype, result.flags.c_contiguous) == (x.dtype, x.flags.c_contiguous)
    assert not grad[3].any() and hess[3].max() <= 1e-16


@every_library
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_derivatives_of_the_focal_loss(library, booster, gamma, rng):
    x, y, w = rng.standard_normal((30, 5)) * 3, rng.integers(0, 5, 30), rng.uniform(0.5, 2, 5)
    y[3], x[4, y[4]], x[5, y[5]] = -100, 80, -80
    sample_weight = rng.uniform(0.5, 2, 30)
    grad, hess = call(booster, booster.objective(gamma=gamma, weight=w), x, y, sample_weight)
    x = booster.layout(x)
    told = {"reduction": "sum", "weight": w, "sample_weight": sample_weight}
    spread, hit = reference.focal_loss_terms(1.0, x, y, gamma=gamma, **told)
    rtol = 1e-12 if x.dtype == np.float64 else 2e-6
    assert_allclose(grad, (spread - hit).astype(float), rtol=10 * rtol, atol=rtol)
    plain, _ = reference.cross_entropy_terms(1.0, x, y, **told)  # M p: the focal loss has f M p
    with np.errstate(invalid="ignore"):
        f = np.where(plain > 0, spread / plain, 0)
    exact = np.array(booster.factor(5) * f * reference.cross_entropy_hessian_diag(x, y, **told), float)
    assert_allclose(hess, np.maximum(exact, 1e-16) if library == "xgboost" else exact, rtol=20 * rtol)
    assert hess.min() >= 0
    if gamma == 0:
        plain = call(booster, booster.objective(weight=w), x, y, sample_weight)
        assert_array_equal(grad, plain[0])
        assert_allclose(hess, plain[1], rtol=1e-6)


@every_library
def test_sure_rows_and_classes_without_probability(booster):
    x = booster.layout(np.array([[0.0, -np.inf, -np.inf], [0, -np.inf, 0], [300, 0, 0], [-np.inf, 0, 0]]))
    for gamma in (None, 0.5, 2.0):
        for result in call(booster, booster.objective(gamma=gamma), x, np.zeros(4), None):
            assert np.isfinite(result).all()


@every_library
def test_nothing_of_the_size_of_the_margins_is_copied(booster, rng):
    margins, y = booster.layout(rng.standard_normal((100_000, 20))), rng.integers(0, 20, 100_000).astype(np.float32)
    objective = booster.objective(label_smoothing=0.1)
    objective(y, margins)
    tracemalloc.start()
    results = objective(y, margins)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(result.nbytes for result in results) == 2 * margins.nbytes
    assert peak < 2 * margins.nbytes + 64 * len(y)


# ---- refusals --------------------------------------------------------------------------------------------------------


@every_library
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (ValueError, {"label_smoothing": 1.5}),
        (ValueError, {"gamma": -1.0}),
        (TypeError, {"ignore_index": 0.5}),
        (TypeError, {"weight": "balanced"}),
        (ValueError, {"weight": np.ones((2, 2))}),
        (ValueError, {"label_smoothing": 0.1, "gamma": 2.0}),
    ],
    ids=str,
)
def test_options_are_refused_at_once(booster, kind, options):
    with pytest.raises(kind, match=next(iter(options))):
        booster.objective(**options)


@every_library
def test_labels_must_be_class_numbers(booster):
    margins = booster.layout(np.zeros((3, 4)))
    for label in (1.5, np.nan, np.inf):
        with pytest.raises(ValueError, match=rf"^labels should be whole numbers, the numbers of classes; got {label} at index 1"):
            booster.objective()(np.array([0, label, 2], np.float32), margins)
    with pytest.raises(IndexError, match="target"):
        booster.objective()(np.array([0, 4, 2], np.float32), margins)
    with pytest.raises(ValueError, match="weight"):
        booster.objective(weight=np.ones(3))(np.zeros(3), margins)


@every_library
def test_an_objective_shows_its_options_and_can_be_copied(library, booster):
    objective = booster.objective(weight=[1.0, 2.0], label_smoothing=0.5)
    assert repr(objective) == f"{library}_objective(weight=[1.0, 2.0], ignore_index=-100, label_smoothing=0.5, gamma=None)"
    for other in (copy.deepcopy(objective), pickle.loads(pickle.dumps(objective))):
        assert repr(other) == repr(objective)


@every_library
def test_without_the_library_the_error_names_the_extra(library):
    code = f"import sys; sys.modules['{library}'] = None; from nbloss.interop import boosting; boosting.{library}_objective()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    message = f'ImportError: nbloss.interop.boosting.{library}_objective needs {library}: pip install "nbloss[boosting]"'
    assert done.stderr.splitlines()[-1] == message
