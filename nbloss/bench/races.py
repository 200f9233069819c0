"""Which races are run: the shapes that the kernels are judged by, and what a run without options takes of them."""

from .problem import DTYPES, OPERATIONS, Problem

# Few classes, many, more than a cache holds; images with the classes on the second axis; classes that lie apart.
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

DEFAULT = (  # some five minutes with every peer installed
    *((VALUE_AND_GRAD, shape, "float32") for shape in SHAPES),
    *((operation, shape, "float32") for operation in USUAL[:2] for shape in ("65536x10", "4096x1000")),
    *((VALUE_AND_GRAD, "1024x32000", dtype) for dtype in ("float32", "bfloat16", "float16")),
)
QUICK = tuple((operation, shape, "float32") for shape in ("32x10", "4096x1000") for operation in USUAL)


def chosen(operations, shapes, dtypes, quick):
    """(operation, shape, dtype)s. Without any choice the default ones; otherwise every combination, "all" meaning all."""
    if not (operations or shapes or dtypes):
        races = QUICK if quick else DEFAULT
    else:
        operations = OPERATIONS if "all" in (operations or ()) else operations or USUAL
        dtypes = DTYPES if "all" in (dtypes or ()) else dtypes or ("float32",)
        shapes = SHAPES if "all" in (shapes or ()) else shapes or CORE
        races = [(operation, shape, dtype) for shape in shapes for dtype in dtypes for operation in operations]
    for _, shape, dtype in races:
        Problem.parse(shape, dtype).numpy_dtype  # noqa: B018  says now what cannot be, and if bfloat16 is not to be had
    return list(dict.fromkeys(races))
