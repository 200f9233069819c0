"""Which races run: the shapes of the benchmark, and the default selection."""

from .problem import DTYPES, OPERATIONS, Problem

# Few classes, many classes, more classes than a cache holds; images with the classes on the second axis; strided classes.
SHAPES = (
    "32x10",
    "65536x3",
    "65536x10",
    "16384x100",
    "4096x1000",
    "256x50257",
    "128x128256",
    "64x10x28x28",
    "8x21x512x512",
    "1000x4096.T",
)
CORE = ("32x10", "65536x10", "4096x1000", "256x50257")
USUAL = ("log_softmax", "cross_entropy", "cross_entropy_value_and_grad")
VALUE_AND_GRAD = "cross_entropy_value_and_grad"

DEFAULT = (  # about five minutes with every peer installed
    *((VALUE_AND_GRAD, shape, "float32") for shape in SHAPES),
    *((operation, shape, "float32") for operation in USUAL[:2] for shape in ("65536x10", "4096x1000")),
    *((VALUE_AND_GRAD, "1024x32000", dtype) for dtype in ("float32", "bfloat16", "float16")),
)
QUICK = tuple((operation, shape, "float32") for shape in ("32x10", "4096x1000") for operation in USUAL)
SMALL = tuple((operation, "32x10", "float32") for operation in OPERATIONS)  # here the cost of the call itself dominates


def chosen(operations, shapes, dtypes, quick, more=()):
    """The races as (operation, shape, dtype) tuples.

    Without any choice: the default races and `more`. Otherwise every combination, where "all" stands for every value.
    """
    if not (operations or shapes or dtypes):
        races = [*(QUICK if quick else DEFAULT), *more]
    else:
        operations = OPERATIONS if "all" in (operations or ()) else operations or USUAL
        dtypes = DTYPES if "all" in (dtypes or ()) else dtypes or ("float32",)
        shapes = SHAPES if "all" in (shapes or ()) else shapes or CORE
        races = [(operation, shape, dtype) for shape in shapes for dtype in dtypes for operation in operations]
    for _, shape, dtype in races:
        Problem.parse(shape, dtype).numpy_dtype  # noqa: B018  reports a bad shape or a missing ml_dtypes before the first race
    return list(dict.fromkeys(races))


def title(record, between="  "):
    """The name of a race in one line."""
    variant = f"{record['variant']}{between}" if "variant" in record else ""
    return f"{record['operation']}{between}{variant}{record['shape']}" + ("" if variant else f" {record['dtype']}")
