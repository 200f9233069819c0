"""From arrays of any strides to the (outer, C, inner) views that the kernels take.

A kernel walks its positions with two strides, an outer and an inner one. Most arrays need no more: neighbouring axes merge where one
stride is a multiple of the other. Where more than two axes of positions remain, the call becomes several *pieces*, one for each index of
the leading axes. The positions of a piece follow each other, so a piece's targets and losses are a slice.

Two kinds of arrays are copied, in blocks of at most BLOCK_BYTES: pieces of fewer elements than PIECE_MIN_ELEMENTS, where starting a kernel
would cost more than the copy, and arrays whose strides are no multiples of the item size (a field of a record), which a kernel cannot walk.
"""

from functools import lru_cache
from itertools import chain, product
from math import prod
from typing import Any, NamedTuple

import numpy as np

BLOCK_BYTES = 1 << 18  # of one array: three of them stay below the 1 MiB that a call may take beside its result

# Elements. Starting a kernel takes as long as copying this many (two cores of a Xeon, 2026-11-30).
PIECE_MIN_ELEMENTS = 8192


class Piece(NamedTuple):
    """The positions [start, stop) of a call, and the (outer, C, inner) views of its arrays at these positions."""

    start: int
    stop: int
    inputs: list[Any]  # None where the caller gave None
    out: Any


def pieces(axis, inputs, out=None, any_order=False):
    """Yield the pieces of a call. ``inputs`` and ``out`` have one shape and class ``axis``; each may be None, but not all.

    Positions are in C order of the axes other than ``axis``; with ``any_order``, in the order in which those of the last input lie in
    memory. Use each piece before asking for the next one: a block of ``out`` is copied to it then. Nothing is yielded for arrays without
    elements.
    """
    arrays = [*inputs, out]
    if any_order:
        axis, arrays = in_memory_order(axis, arrays, inputs[-1])
    shape, layouts = _layouts(arrays)
    if 0 in shape:
        return
    plan = _plan(shape, axis, layouts)
    if plan is None:
        yield from _copied([a if a is None or a.ndim else a.reshape(1) for a in arrays], axis)
        return
    order, sizes, positions = plan
    views = _views(arrays, order, sizes)
    if len(sizes) == 3:
        yield Piece(0, positions, views[:-1], views[-1])
        return
    for k, index in enumerate(product(*map(range, sizes[:-3]))):
        *views_of_inputs, view_of_out = [v if v is None else v[index] for v in views]
        yield Piece(k * positions, (k + 1) * positions, views_of_inputs, view_of_out)


def whole(axis, arrays):
    """The (outer, C, inner) views of arrays of one shape that make one piece without a copy; None if they do not. Arrays may be None."""
    shape, layouts = _layouts(arrays)
    plan = _plan(shape, axis, layouts)
    if plan is None or len(plan[1]) != 3:
        return None
    order, sizes, _ = plan
    return _views(arrays, order, sizes)


def in_memory_order(axis, arrays, like):
    """``(axis, arrays)``, transposed so that the axes have the order in which those of ``like`` lie in memory. Arrays may be None."""
    order = _memory_order(like.shape, like.strides)
    if order is None:
        return axis, arrays
    return order.index(axis), [a if a is None else a.transpose(order) for a in arrays]


def _layouts(arrays):
    """The shape of arrays, some of which may be None, and the ``(strides, item size)`` of each."""
    given = [a for a in arrays if a is not None]
    return given[0].shape, tuple([(a.strides, a.itemsize) for a in given])


def _views(arrays, order, sizes):
    return [a if a is None else (a if order is None else a.transpose(order)).reshape(sizes) for a in arrays]


@lru_cache(maxsize=4096)
def _memory_order(shape, strides):
    """The axes from the largest stride to the smallest; None if that is their own order. Axes of one element keep their places."""
    several = [k for k, n in enumerate(shape) if n > 1]
    by_stride = iter(sorted(several, key=lambda k: -abs(strides[k])))
    order = tuple(next(by_stride) if n > 1 else k for k, n in enumerate(shape))
    return None if order == tuple(range(len(shape))) else order


@lru_cache(maxsize=4096)
def _plan(shape, axis, layouts):
    """How to view arrays of these ``(strides, item size)``: ``(order of axes or None, sizes of the view, positions of a piece)``.

    The sizes are those of the groups to loop over, and (outer, C, inner). None if blocks have to be copied.
    """
    if not all(_walkable(shape, *layout) for layout in layouts):
        return None
    if not shape:
        return None, (1, 1, 1), 1
    groups = _merged([k for k, n in enumerate(shape) if n > 1 and k != axis], shape, [strides for strides, _ in layouts])
    *leading, outer, inner = _with_outer_and_inner(groups, axis)
    used = [*chain(*leading), *outer, axis, *inner]
    order = [k for k in range(len(shape)) if k not in used] + used  # the others have one element
    before, sizes = [prod(shape[k] for k in group) for group in leading], [prod(shape[k] for k in group) for group in (outer, inner)]
    positions = prod(sizes)
    if leading and positions * shape[axis] < PIECE_MIN_ELEMENTS:
        return None
    return None if order == sorted(order) else order, (*before, sizes[0], shape[axis], sizes[1]), positions


def _walkable(shape, strides, itemsize):
    """Whether the strides are multiples of the item size."""
    return not any(stride % itemsize for n, stride in zip(shape, strides, strict=True) if n > 1)


def _merged(axes, shape, strides):
    """Groups of neighbouring ``axes``, in order, each of which has one stride in every array."""
    groups = []
    for k in axes:
        if groups and all(s[groups[-1][-1]] == shape[k] * s[k] for s in strides):
            groups[-1].append(k)
        else:
            groups.append([k])
    return groups


def _with_outer_and_inner(groups, axis):
    """At least two groups. One group alone is the inner one if its axes follow the class axis: its positions may be contiguous."""
    if len(groups) > 1:
        return groups
    if not groups:
        return [], []
    return ([], groups[0]) if groups[0][0] > axis else (groups[0], [])


def _copied(arrays, axis):
    """Pieces of at most BLOCK_BYTES, or of one position, whose arrays are copied unless one stride describes their positions."""
    arrays = [None if a is None else np.moveaxis(a, axis, -1) for a in arrays]
    *sizes, classes = next(a for a in arrays if a is not None).shape
    room = max(1, BLOCK_BYTES // (classes * max(a.itemsize for a in arrays if a is not None)))  # positions of a block
    split = len(sizes)  # the axis that is cut: all axes after it are whole
    while split and prod(sizes[split - 1 :]) <= room:
        split -= 1
    split = max(split - 1, 0)
    whole, start = prod(sizes[split + 1 :]), 0
    step = max(1, room // whole)
    for index in product(*map(range, sizes[:split])):
        for first in range(0, sizes[split] if sizes else 1, step):
            blocks = [None if a is None else a[index][first : first + step] if sizes else a for a in arrays]
            stop = start + prod(next(b for b in blocks if b is not None).shape[:-1])
            *inputs, out = [None if b is None else _rows(b, stop - start) for b in blocks]
            for row, block in zip(inputs, blocks, strict=False):
                if row is not None and row.base is None:
                    row.reshape(block.shape)[...] = block
            yield Piece(start, stop, [r if r is None else r[:, :, None] for r in inputs], out if out is None else out[:, :, None])
            if out is not None and out.base is None:
                blocks[-1][...] = out.reshape(blocks[-1].shape)
            start = stop


def _rows(block, count):
    """A (positions, C) view of a block, or a new array, whose base is None."""
    shape = block.shape
    axes = [k for k in range(block.ndim - 1) if shape[k] > 1]
    if _walkable(shape, block.strides, block.itemsize) and len(_merged(axes, shape, [block.strides])) <= 1:
        return block.reshape(count, shape[-1])
    return np.empty((count, shape[-1]), block.dtype)
