"""Which variants run on which shapes, and the limits that are wanted: the most time of a variant over the plain call's, in one run.

A pair of limits is for usual shapes, and for `SMALL`, where the price of the call itself decides. None: no limit is wanted.
"""

SMALL = "32x10"
ROWS = ("65536x10", "16384x100", "2048x1000", "64x50257", SMALL)
PIXELS = "2x21x512x512"
TOKENS = "4x129x32000"  # (B, T, V)
CUBES = ("1024x1024", "100x100x100", "32x32x32x32", SMALL)  # equal sizes: over every axis the work is the same
SOME = ("65536x10", "2048x1000", PIXELS, SMALL)

VALUE_AND_GRAD, LOSS, BACKWARD = "cross_entropy_value_and_grad", "cross_entropy", "cross_entropy_backward"
NLL, LOG_SOFTMAX, LOG_SOFTMAX_BACKWARD = "nll_loss", "log_softmax", "log_softmax_backward"

TARGETS = {
    "int32 target": 1.1,
    "uint8/16 target": 1.1,  # the narrowest type that holds the classes
    "weight": 1.15,
    "30% ignored": 1.15,
    "all ignored": (0.8, 2),
    "none": 1.1,
    "sum": 1.1,
}
DTYPES = {"float64": 2.3, "float16": 1.15, "bfloat16": 1.2}
VALUES = {"masked -inf 20%": 1.1, "logits x30": 2, "logits -100": 1.3}
SOFT = {
    "smoothing": (1.3, 2),
    "smoothing+weight+ignored": (1.5, 2.5),
    "prob target": (1.6, 3),  # three streams of memory for two
    "prob+weight": (1.7, 3),
    "one-hot target": (1.6, 3),
    "f16 smoothing": (1.4, 2.2),
    "bf16 prob": (1.6, 3),
    "confident +25": 1.25,  # the logit of the target: as late in training
}
VIEWS = {  # of (N, C)
    "x[:, :-7] view": (1.15, 2),
    "reversed rows": (1.15, 2),
    "reversed classes": (2, 3),
    "Fortran order": (2, 3),
    "x[:, ::2]": (2, 3),
}
CHANNELS_LAST = {"channels last": 1.25}  # (N, H, W, C), seen as (N, C, H, W)
SHIFT = {"next-token shift": 1.15}  # over the same labels, shifted with ignore_index, on all logits
# The axis of the classes. The last axis in C order is the plain call.
AXES = {f"axis {axis}, {order}": (2, 3) for axis in range(4) for order in ("C order", "Fortran order")}
del AXES["axis 3, C order"]

LIMITS = TARGETS | DTYPES | VALUES | SOFT | VIEWS | CHANNELS_LAST | SHIFT | AXES | {"mean": TARGETS["sum"]}

ELSEWHERE = {  # (operation, variant, shape): a limit of its own; None stands for every operation or shape
    (None, "Fortran order", "64x50257"): 3,
    # The plain loss reads one stream of memory, with probabilities two.
    (LOSS, "prob target", None): (2.2, 3),
    (LOSS, "prob+weight", None): (2.3, 3),
    (LOSS, "one-hot target", None): (2.2, 3),
    (LOSS, "bf16 prob", None): (2.2, 3),
}

LOSSES = TARGETS | SOFT | DTYPES | VALUES | VIEWS | CHANNELS_LAST
OPERATIONS = {  # operation -> (its variants, its shapes); a variant that a shape cannot have is left out
    VALUE_AND_GRAD: ((*LOSSES, *SHIFT), (*ROWS[:-1], PIXELS, TOKENS, SMALL)),
    LOSS: (tuple(LOSSES), SOME),
    BACKWARD: (("mean", *(name for name in LOSSES if name != "none")), SOME),  # plain: "none", with an array upstream
    NLL: ((*TARGETS, *DTYPES, *VIEWS, *CHANNELS_LAST), SOME),
    LOG_SOFTMAX: ((*DTYPES, *VALUES, *AXES), (*SOME[:-1], *CUBES)),
    LOG_SOFTMAX_BACKWARD: ((*DTYPES, *AXES), (*SOME[:-1], *CUBES)),
}
QUICK = {
    VALUE_AND_GRAD: ("16384x100", SMALL),
    **dict.fromkeys((LOSS, BACKWARD, NLL), (SMALL,)),
    **dict.fromkeys((LOG_SOFTMAX, LOG_SOFTMAX_BACKWARD), ("100x100x100",)),
}


def sizes(shape):
    """(N, C, ...) of "NxCx..."."""
    return tuple(map(int, shape.split("x")))


def fits(operation, variant, shape):
    """Whether a shape can have this variant of an operation."""
    rank = len(sizes(shape))
    if (variant in SHIFT) != (shape == TOKENS):
        return False
    if variant in AXES:
        return shape in CUBES and int(variant[5]) < rank and variant != f"axis {rank - 1}, C order"
    if operation in (LOG_SOFTMAX, LOG_SOFTMAX_BACKWARD):
        return shape not in CUBES or shape == SMALL
    return rank == 2 if variant in VIEWS else rank == 4 if variant in CHANNELS_LAST else True


def limit(operation, variant, shape):
    """The wanted limit of a variant on a shape, or None."""
    places = [(o, variant, s) for o in (operation, None) for s in (shape, None)]
    found = next((ELSEWHERE[place] for place in places if place in ELSEWHERE), LIMITS[variant])
    return found[shape == SMALL] if isinstance(found, tuple) else found


def cells(operations=None, shapes=None, variants=None, quick=False):
    """(operation, variant, shape) of everything that runs: what is named, or all. `quick` leaves most shapes out."""
    found = []
    for operation, (its_variants, its_shapes) in OPERATIONS.items():
        if operation not in (operations or OPERATIONS):
            continue
        run = QUICK[operation] if quick and not shapes else its_shapes
        for shape in [s for s in run if s in (shapes or run)]:
            found += [(operation, v, shape) for v in its_variants if v in (variants or its_variants) and fits(operation, v, shape)]
    return found


def shapes():
    """Every shape, once."""
    return list(dict.fromkeys(shape for _, its_shapes in OPERATIONS.values() for shape in its_shapes))
