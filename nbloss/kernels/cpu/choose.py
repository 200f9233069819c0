"""The chooser: from an operation and the layout of its arrays to the kernel that runs it, and to the grain of its parallel work.

Both ways into the kernels ask here: the general way (``kernel_set``, any strides) and the fused way (a whole loss in one kernel, C order).
``python -m nbloss info --kernels SHAPE`` prints what is chosen, and why. This module imports no Numba.

Arrays are (outer, C, inner): C is the class axis, a position is one (outer, inner). Six algorithms exist, each in a folder of its own:

===================  ====================================================================================================
``vector_per_row``   classes contiguous, vectors along each row
``blocked``          other layouts of many classes: blocks of rows are copied to a cache, then as vector_per_row
``mapped``           many classes whose logits are scaled or capped: blocks of rows are mapped to a cache, then as vector_per_row
``row_per_lane``     one position per SIMD lane: few classes with any stride
``channels_first``   classes on an axis of their own, positions contiguous: (N, C, H, W)
``per_target``       work per target instead of per logit
===================  ====================================================================================================
"""

from functools import cache, lru_cache
from typing import NamedTuple

from nbloss.kernels.cpu.tuning import (
    BLOCK_LINE,
    CHANNELS_MIN_POSITIONS,
    CHUNK_ELEMENTS_CHANNELS,
    CHUNK_ELEMENTS_ROWS,
    CHUNK_ELEMENTS_SHORT_ROWS,
    LANES_MAX_CLASSES,
    NONTEMPORAL_MIN_ITEMSIZE,
    RUNS_MAX_CLASSES,
    RUNS_MIN_POSITIONS,
    SCATTER_COLUMNS,
    SCATTER_SPEED,
    SUM_GROUP_ROWS,
    SUM_RUN_ROWS,
    TALLY_ELEMENTS,
    TARGET_READ_ELEMENTS,
    TRANSPOSED_MIN_CLASSES,
)


class Grain(NamedTuple):
    """How positions are shared out among threads."""

    elements: int  # that one position costs
    multiple: int  # positions: a chunk is a whole multiple, so that no chunk ends in a partial tile
    chunk: int  # elements of a chunk


class Layout(NamedTuple):
    """What the choice depends on of an (outer, C, inner) array."""

    shape: tuple
    strides: tuple  # bytes
    itemsize: int

    def contiguous(self, axis):
        return self.strides[axis] == self.itemsize

    @property
    def transposed(self):
        """The view in which positions that are neighbours in memory are the inner axis."""
        return Layout(self.shape[::-1], self.strides[::-1], self.itemsize)


AS_GIVEN, TRANSPOSED = "as given", "transposed"  # the views of a Choice; transposed, neighbouring positions become the inner axis


class Choice(NamedTuple):
    """A kernel, how its work is shared out, and the reason in words."""

    kernel: str  # full name: module and function
    grain: Grain
    why: str
    view: str = AS_GIVEN


def _kernel(algorithm, module, function):
    return f"{__package__}.{algorithm}.{module}.{function}"


WHY = {
    "vector_per_row": f"more than {LANES_MAX_CLASSES} contiguous classes: vectors along each row",
    "blocked": f"more than {LANES_MAX_CLASSES} classes that are not contiguous: copied in blocks, vectors along each row",
    "mapped": f"more than {LANES_MAX_CLASSES} classes, logits scaled or capped: mapped in blocks, vectors along each row",
    "short rows": f"at most {LANES_MAX_CLASSES} classes: one row per lane",
    "strided": f"at most {LANES_MAX_CLASSES} classes that are not contiguous: one position per lane",
    "channels_first": f"at most {LANES_MAX_CLASSES} classes, positions contiguous: loads, arithmetic and stores overlap",
    "long runs": "positions contiguous: long runs of each class",
    "soft": f"at most {LANES_MAX_CLASSES} classes, or positions contiguous: vectors along the positions, if they are contiguous",
    "fused": "; targets, losses and their sum in one kernel",
    "fused_soft": "; losses and their sum in one kernel",
}

MODULES = {  # operation -> the file that has it, in each algorithm's folder
    "log_softmax": "log_softmax",
    "log_softmax_backward": "log_softmax",
    "softmax": "softmax",
    "softmax_backward": "softmax",
    "cross_entropy": "cross_entropy",
    "cross_entropy_soft": "soft_targets",
    "cross_entropy_stats": "cross_entropy_stats",
    "distillation": "distillation",
    "cross_entropy_hvp": "second_order",
    "cross_entropy_hessian_diag": "second_order",
    "nll_soft": "nll_soft",
    "nll_soft_backward": "nll_soft",
}


NOT_PIPELINED = "cross_entropy_soft", "cross_entropy_stats", "distillation", "cross_entropy_hvp", "cross_entropy_hessian_diag"


# ------------------------------ layouts ------------------------------


def _few_channels(classes, inner):
    """Whether a shape is that of channels first: few classes, and enough positions on the inner axis."""
    return inner >= CHANNELS_MIN_POSITIONS and classes <= LANES_MAX_CLASSES


def _long_runs(inputs, out):
    """Whether arrays are channels first; ``out`` may also be rows of many classes, where the logits are transposed."""
    _, classes, inner = inputs[0].shape
    if inner < CHANNELS_MIN_POSITIONS or not all(a.contiguous(2) for a in inputs):
        return False
    return out.contiguous(2) or (classes >= TRANSPOSED_MIN_CLASSES and out.contiguous(1) and out.itemsize >= NONTEMPORAL_MIN_ITEMSIZE)


# ------------------------------ the general way ------------------------------


def choose(operation, inputs, out, options=None):
    """The Choice for an operation of the contract on (outer, C, inner) ``inputs`` and ``out`` (None: the loss alone), with row options."""
    x = inputs[0]
    other = None if len(inputs) == 1 else (inputs[1].strides, inputs[1].itemsize)
    maps = options is not None and options.maps
    return _choose(operation, x.shape, x.strides, x.itemsize, other, None if out is None else out.strides, options is None, maps)


@lru_cache(maxsize=4096)
def _choose(operation, shape, strides, itemsize, other, out_strides, plain, maps):
    """`choose` for the numbers of a layout, which a table can hold. A small call takes 5 us; computing its choice would take 2 of them."""
    inputs = [Layout(shape, strides, itemsize)] + ([] if other is None else [Layout(shape, *other)])
    out = None if out_strides is None else Layout(shape, out_strides, itemsize)
    arrays = inputs if out is None else [*inputs, out]
    classes = shape[1]

    def choice(algorithm, module, grain, why, view=AS_GIVEN):
        return Choice(_kernel(algorithm, module, operation), grain, WHY[why], view)

    rows = Grain(classes, 1, CHUNK_ELEMENTS_ROWS)
    if classes > LANES_MAX_CLASSES and all(a.contiguous(1) for a in arrays):
        if maps:
            return choice("mapped", "kernels", rows, "mapped")
        return choice("vector_per_row", MODULES[operation], rows, "vector_per_row")
    view = AS_GIVEN
    if inputs[0].shape[2] == 1 and inputs[0].contiguous(0):
        view, arrays = TRANSPOSED, [a.transposed for a in arrays]
        inputs, out = arrays[: len(inputs)], None if out is None else out.transposed
    outer, _, inner = inputs[0].shape
    chunk = CHUNK_ELEMENTS_CHANNELS if inner > 1 else CHUNK_ELEMENTS_SHORT_ROWS
    # about 128 chunks, each of whole multiples of 64 positions: no chunk ends with a short run through all classes
    runs = Grain(len(inputs) * classes, min(256, -(-outer * inner // 128) * 64), chunk)
    if operation in ("log_softmax_backward", "softmax_backward") and _long_runs(inputs, out):
        return choice("channels_first", "gradients", runs, "long runs", view)
    many = LANES_MAX_CLASSES < classes <= RUNS_MAX_CLASSES
    if operation == "log_softmax" and many and inner >= RUNS_MIN_POSITIONS and all(a.contiguous(2) for a in arrays):
        return choice("channels_first", "log_softmax_many", runs, "long runs", view)
    if operation == "nll_soft" and classes <= LANES_MAX_CLASSES:
        return choice("per_target", "nll", Grain(classes, 64, chunk), "soft", view)
    if operation == "nll_soft_backward" and (classes <= LANES_MAX_CLASSES or all(a.contiguous(2) for a in arrays)):
        return choice("per_target", "nll", Grain(classes, 64, chunk), "soft", view)
    if classes > LANES_MAX_CLASSES:
        folder = "mapped" if maps else "blocked"
        return choice(folder, "kernels", Grain(classes, BLOCK_LINE, CHUNK_ELEMENTS_CHANNELS), folder, view)
    grain = Grain(classes, 64, chunk)
    # The pipeline sums without the maximum, which row options and statistics need; for two inputs there is no pipeline.
    pipelined = operation not in NOT_PIPELINED and plain
    if pipelined and _few_channels(classes, inner) and all(a.contiguous(2) for a in arrays):
        return choice("channels_first", MODULES[operation], grain, "channels_first", view)
    return choice("row_per_lane", MODULES[operation], grain, "short rows" if inner == 1 else "strided", view)


def one_scale_for_all(classes):
    """Whether the kernels for this number of classes take one number that all rows share instead of one per row."""
    return classes <= LANES_MAX_CLASSES


# ------------------------------ the fused way ------------------------------


def adds(operation, classes, only_sum, sampled):
    """Whether a fused kernel adds losses as it goes, without an array of them. ``only_sum``: no gradient is asked for, and no losses.

    "cross_entropy" does so for few classes, and "nll" without sample weights (``sampled``).
    """
    return only_sum and (not sampled if operation == "nll" else operation == "cross_entropy" and classes <= LANES_MAX_CLASSES)


def fused(operation, inputs, out, sums, options=None, sampled=False):
    """The Choice for a whole loss in one kernel; ``sums``: to one number; ``sampled``: with sample weights.

    "cross_entropy" and "cross_entropy_soft" have the kernels of `choose`, with steps before and after; "nll" is per target.
    """
    classes = inputs[0].shape[1]
    only_sum = adds(operation, classes, sums and out is None, sampled)
    if operation == "nll":
        return _fused_nll(only_sum, TARGET_READ_ELEMENTS if out is None else classes)
    return _fused(choose(operation, inputs, out, options), only_sum)


@cache
def _fused_nll(adds, elements):
    grain = Grain(elements, SUM_RUN_ROWS if adds else 64, CHUNK_ELEMENTS_SHORT_ROWS)
    return Choice(f"{__package__}.fused.{'sum' if adds else 'loss'}_nll", grain, NLL.why + WHY["fused"])


@cache
def _fused(base, adds):
    *_, algorithm, _, function = base.kernel.split(".")
    soft = function == "cross_entropy_soft"
    kind = "soft" if soft else "sum" if adds else "loss"
    grain = base.grain._replace(multiple=SUM_RUN_ROWS) if adds else base.grain
    why = base.why + WHY["fused_soft" if soft else "fused"]
    return Choice(f"{__package__}.fused.{kind}_{algorithm}", grain, why, base.view)


# ------------------------------ per target ------------------------------


def _per_target(module, function, elements, multiple, why):
    return Choice(_kernel("per_target", module, function), Grain(elements, multiple, CHUNK_ELEMENTS_ROWS), why)


ROW_SCALE = _per_target("targets", "row_scale", 1, SUM_GROUP_ROWS, "checks targets and looks up weights")
ROW_SUM = _per_target("sums", "row_sum", 1, SUM_GROUP_ROWS, "adds losses in a fixed order")
TALLY = _per_target("tally", "tally", TALLY_ELEMENTS, SUM_GROUP_ROWS, "counts evaluated rows, and adds in a fixed order")


def scatter_rows(terms):
    """The Choice for adding so many rows to others, whose cost is per term; its positions are columns."""
    return _per_target("scatter", "scatter_rows", terms // SCATTER_SPEED, SCATTER_COLUMNS, "adds rows to others in a fixed order")


NLL = _per_target("nll", "nll", TARGET_READ_ELEMENTS, 64, "one logit per target")


def nll_backward(classes):
    """The Choice for the gradient of class numbers, whose cost is per class."""
    return _per_target("nll", "nll_backward", classes, 64, "one pass over targets and output")


# ------------------------------ second derivatives of mapped logits ------------------------------


def _per_logit(function):
    """The Choice for a kernel of arrays whose length is a multiple of its grain's."""
    return Choice(_kernel("mapped", "second_order", function), Grain(1, 64, CHUNK_ELEMENTS_ROWS), "one logit after another")


MAP_LOGITS, UNMAP = _per_logit("map_logits"), _per_logit("unmap")
