"""Floor 1: rows whose classes lie side by side. A group of threads per row: lanes of a warp, a block, or a cluster of blocks.

Three passes over a row: its maximum, the sum of exponentials, the output. Where the group's registers hold the row (``resident``) memory
is read once and written once; a longer row is read again, chunk by chunk, mostly from the second cache.
"""

from numba import cuda

from nbloss.kernels.cuda import launch, plan
from nbloss.kernels.cuda.groups import add, folding, placing, room
from nbloss.kernels.cuda.masses import cross_entropy_masses
from nbloss.kernels.cuda.maths import EXP, EXP_GAP, UNIT
from nbloss.kernels.cuda.prims import get, integer, log1p, put
from nbloss.kernels.cuda.steps import peaking, pick_loss, pull, sharing, summing
from nbloss.kernels.cuda.strips import Strip


def log_softmax_rows(stored, width, group, vectors, resident, modern):
    strip = Strip(stored, width, group, vectors, resident, modern)
    keep = resident and not strip.packed
    place, peak, total = placing(group), peaking(strip, group), summing(strip, group, "gaps" if keep else None)
    split, edge_of, chunks, at, fill, renew, opened, write = strip.steps
    zero = strip.number(0)
    kind, word, numbers, words = strip.shared, strip.word, room(group, 3), strip.held

    def kernel(x, out, rows, classes, stride, offset):
        shared = cuda.shared.array(numbers, kind)
        held = cuda.local.array(words, word)
        result = cuda.local.array(width, kind)
        row, rank = place()
        base, base_out = row * stride, row * classes
        head, count, edge = split(base + offset, classes, rank)
        if row >= rows:
            count, edge = 0, -1
        x_edge = edge_of(x, base, edge)
        m = peak(x, base + head, count, x_edge, rank, held, shared)
        _, rest = total(x, base + head, count, x_edge, m, rank, held, shared)
        log_s = log1p(rest)
        taken = zero if keep else m
        renew(held, offset)
        for chunk in range(chunks(count)):
            if not resident:
                fill(x, base + head, chunk, count, rank, held)
            for v in range(vectors):
                j = at(chunk, v, rank)
                if j < count:
                    opened(x, held, v, result)
                    for n in range(width):
                        result[n] = (result[n] - taken) - log_s
                    write(out, base_out + head + j * width, result)
        if edge >= 0:
            put(out, base_out + edge, (x_edge - m) - log_s)

    return kernel


def log_softmax_backward_rows(stored, width, group, vectors, resident, modern):
    strip = Strip(stored, width, group, vectors, resident, modern)
    place, fold, power = placing(group), folding(group, add), EXP[strip.kind]
    zero, inverse = strip.number(0), strip.number(1) / UNIT[strip.kind]
    split, edge_of, chunks, at, fill, renew, opened, write = strip.steps
    load, open_, per_vector, per_word = strip.load, strip.open, strip.per_vector, width // strip.per_vector
    kind, word, numbers, words = strip.shared, strip.word, room(group, 1), strip.held

    def kernel(g, y, out, rows, classes, stride, stride_y, offset):
        shared = cuda.shared.array(numbers, kind)
        held = cuda.local.array(words, word)
        result = cuda.local.array(width, kind)
        row, rank = place()
        base, base_y, base_out = row * stride, row * stride_y, row * classes
        head, count, edge = split(base + offset, classes, rank)
        if row >= rows:
            count, edge = 0, -1
        g_edge = edge_of(g, base, edge) if edge >= 0 else zero
        y_edge = edge_of(y, base_y, edge)
        sums, lost = g_edge, zero
        for chunk in range(chunks(count)):
            fill(g, base + head, chunk, count, rank, held)
            for v in range(vectors):
                if at(chunk, v, rank) < count:
                    opened(g, held, v, result)
                    part = zero
                    for n in range(width):
                        part += result[n]
                    grown = sums + part
                    if not resident:
                        lost += part - (grown - sums)
                    sums = grown
        factor = fold(sums + lost, shared, 0) * inverse
        renew(held, offset)
        for chunk in range(chunks(count)):
            if not resident:
                fill(g, base + head, chunk, count, rank, held)
            for v in range(vectors):
                j = at(chunk, v, rank)
                if j < count:
                    opened(g, held, v, result)
                    words_y = load(y, base_y + head + j * width)
                    for k in range(per_vector):
                        values = open_(y, words_y[k])
                        for n in range(per_word):
                            result[k * per_word + n] -= power(values[n]) * factor
                    write(out, base_out + head + j * width, result)
        if edge >= 0:
            put(out, base_out + edge, g_edge - power(y_edge) * factor)

    return kernel


def cross_entropy_rows(stored, width, group, vectors, resident, modern, gradient):
    strip = Strip(stored, width, group, vectors, resident, modern)
    keep = gradient and resident and not strip.packed
    place, peak, total = placing(group), peaking(strip, group), summing(strip, group, "powers" if keep else None)
    split, edge_of, chunks, at, fill, renew, opened, write = strip.steps
    owner, gap, share = strip.owner, EXP_GAP[strip.kind], sharing(strip, keep)
    zero, inverse = strip.number(0), strip.number(1) / UNIT[strip.kind]
    kind, word, numbers, words = strip.shared, strip.word, room(group, 3), strip.held

    def kernel(x, target, mask, scale, upstream, step, loss, out, rows, classes, stride, offset):
        shared = cuda.shared.array(numbers, kind)
        held = cuda.local.array(words, word)
        result = cuda.local.array(width, kind)
        row, rank = place()
        base, base_out = row * stride, row * classes
        head, count, edge = split(base + offset, classes, rank)
        hit, coef, y = zero, zero, 0
        if row < rows:
            hit = get(scale, row)
            y = integer(target, row) & mask
            if gradient:
                coef = hit * get(upstream, row * step)
        else:
            count, edge = 0, -1
        x_edge = edge_of(x, base, edge)
        x_y = get(x, base + y) if hit != zero else zero  # before anything is written: out may be x
        m = peak(x, base + head, count, x_edge, rank, held, shared)
        s, rest = total(x, base + head, count, x_edge, m, rank, held, shared)
        if rank == 0 and row < rows:
            put(loss, row, pick_loss(hit, log1p(rest), m - x_y) if hit != zero else zero)
        if gradient:
            factor = coef / s if coef != zero else zero
            renew(held, offset)
            for chunk in range(chunks(count)):
                if not resident:
                    fill(x, base + head, chunk, count, rank, held)
                for v in range(vectors):
                    j = at(chunk, v, rank)
                    if j < count:
                        opened(x, held, v, result)
                        for n in range(width):
                            result[n] = share(result[n], m, factor) if coef != zero else zero
                        write(out, base_out + head + j * width, result)
            if edge >= 0:
                put(out, base_out + edge, gap(x_edge, m) * (factor * inverse) if coef != zero else zero)
            if coef != zero and rank == owner(y, head, count):
                others = s - gap(x_y, m) * inverse if x_y < m else rest
                put(out, base_out + y, pull(coef, others, s))

    return kernel


# ------------------------------ launches ------------------------------


def _begins(array, width):
    """How many numbers behind a multiple of ``width`` the rows of an array begin, the first one and from row to row."""
    return array.address // array.itemsize % width, array.strides[0] // array.itemsize % width


def _packed(twin, array):
    """The array itself where a kernel can walk its rows, else a copy."""
    _, classes, _ = array.shape
    if array.contiguous or ((array.strides[1] == array.itemsize or classes == 1) and array.strides[0] >= 0):
        return array
    return twin.packed(array)


def _stride(array):
    return array.strides[0] // array.itemsize


def _run(twin, make, constants, inputs, result, before, heavy=False):
    """Launch a kernel over the rows of ``inputs``: arguments ``before``, count of rows, classes, strides, alignment."""
    x = inputs[0]
    count, classes, _ = x.shape
    width = plan.WIDTH[x.dtype.name]
    every = inputs if result is None else [*inputs, result]
    first, apart = _begins(x, width)
    aligned = all(
        (first - a) % plan.WIDTH[array.dtype.name] == 0 == (apart - b) % plan.WIDTH[array.dtype.name]
        for array in every
        for a, b in [_begins(array, width)]
    )
    p = plan.rows(x.dtype.name, count, classes, aligned, twin.capability, twin.multiprocessors, heavy)
    strides = [_stride(array) for array in inputs]
    launch.run(
        twin,
        make,
        (x.dtype.name, p.width, p.group, p.vectors, p.resident, twin.modern, *constants),
        p.grid,
        p.threads,
        *before,
        count,
        classes,
        *strides,
        first,
        cluster=p.cluster,
        at_once=p.at_once,
    )


def log_softmax(twin, x, out):
    x = _packed(twin, x)
    _run(twin, log_softmax_rows, (), [x], out, (x, out))


def log_softmax_backward(twin, g, y, out):
    g, y = _packed(twin, g), _packed(twin, y)
    _run(twin, log_softmax_backward_rows, (), [g, y], out, (g, y, out))


def _gradient(loss, upstream, out):
    """What stands for upstream and out in a launch, and how far apart upstream's numbers are."""
    return (loss, 0, loss) if out is None else (upstream, int(upstream.size > 1), out)


def cross_entropy(twin, x, target, mask, scale, upstream, loss, out):
    x = _packed(twin, x)
    upstream, step, result = _gradient(loss, upstream, out)
    _run(twin, cross_entropy_rows, (out is not None,), [x], out, (x, target, int(mask), scale, upstream, step, loss, result))


def cross_entropy_smooth(twin, x, target, mask, scale, spread, w, upstream, loss, out):
    x = _packed(twin, x)
    upstream, step, result = _gradient(loss, upstream, out)
    zero = loss.dtype.type(0)
    given = x, x, w, zero, zero, target, int(mask), scale, spread, upstream, step, loss, result
    _run(twin, cross_entropy_masses, (out is not None, False), [x, x], out, given, heavy=True)


def cross_entropy_soft(twin, x, y, w, a, b, upstream, loss, out):
    x, y = _packed(twin, x), _packed(twin, y)
    upstream, step, result = _gradient(loss, upstream, out)
    real = loss.dtype.type
    given = x, y, w, real(a), real(b), loss, 0, loss, loss, upstream, step, loss, result
    _run(twin, cross_entropy_masses, (out is not None, True), [x, y], out, given, heavy=True)
