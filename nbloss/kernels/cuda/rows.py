"""Rows whose classes lie side by side. A group of threads per row: lanes of a warp, a block, or a cluster of blocks.

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
from nbloss.kernels.cuda.strips import Strip, repeated


def log_softmax_rows(stored, width, group, vectors, resident, modern):
    strip = Strip(stored, width, group, vectors, resident, modern)
    keep = resident and not strip.packed
    place, peak, total = placing(group), peaking(strip, group), summing(strip, group, "gaps" if keep else None)
    split, edge_of, chunks, at, fill, renew, opened, write = strip.steps
    zero = strip.number(0)
    kind, word, numbers, words = strip.shared, strip.word, room(group, 3), strip.held

    def write_vector(v, x, out, place_out, chunk, count, rank, held, m, log_s):
        j = at(chunk, v, rank)
        if j < count:
            result = cuda.local.array(width, kind)
            opened(x, held, v, result)
            for n in range(width):
                result[n] = (result[n] - m) - log_s
            write(out, place_out + j * width, result)

    write_vectors = repeated(write_vector, vectors)

    def kernel(x, out, rows, classes, stride, offset):
        shared = cuda.shared.array(numbers, kind)
        held = cuda.local.array(words, word)
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
            write_vectors(x, out, base_out + head, chunk, count, rank, held, taken, log_s)
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

    def add_vector(v, sums, lost, g, chunk, count, rank, held):
        if at(chunk, v, rank) < count:
            result = cuda.local.array(width, kind)
            opened(g, held, v, result)
            part = zero
            for n in range(width):
                part += result[n]
            grown = sums + part
            if not resident:
                lost += part - (grown - sums)
            sums = grown
        return sums, lost

    def write_vector(v, g, y, out, place_y, place_out, chunk, count, rank, held, factor):
        j = at(chunk, v, rank)
        if j < count:
            result = cuda.local.array(width, kind)
            opened(g, held, v, result)
            words_y = load(y, place_y + j * width)
            for k in range(per_vector):
                values = open_(y, words_y[k])
                for n in range(per_word):
                    result[k * per_word + n] -= power(values[n]) * factor
            write(out, place_out + j * width, result)

    add_vectors, write_vectors = repeated(add_vector, vectors, carried=2), repeated(write_vector, vectors)

    def kernel(g, y, out, rows, classes, stride, stride_y, offset):
        shared = cuda.shared.array(numbers, kind)
        held = cuda.local.array(words, word)
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
            sums, lost = add_vectors(sums, lost, g, chunk, count, rank, held)
        factor = fold(sums + lost, shared, 0) * inverse
        renew(held, offset)
        for chunk in range(chunks(count)):
            if not resident:
                fill(g, base + head, chunk, count, rank, held)
            write_vectors(g, y, out, base_y + head, base_out + head, chunk, count, rank, held, factor)
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

    def write_vector(v, x, out, place_out, chunk, count, rank, held, m, factor, nothing):
        j = at(chunk, v, rank)
        if j < count:
            result = cuda.local.array(width, kind)
            opened(x, held, v, result)
            for n in range(width):
                result[n] = zero if nothing else share(result[n], m, factor)
            write(out, place_out + j * width, result)

    write_vectors = repeated(write_vector, vectors)

    def kernel(x, target, mask, scale, upstream, step, loss, out, rows, classes, stride, offset):
        shared = cuda.shared.array(numbers, kind)
        held = cuda.local.array(words, word)
        row, rank = place()
        base, base_out = row * stride, row * classes
        head, count, edge = split(base + offset, classes, rank)
        hit, coef, y = zero, zero, 0
        if row < rows:
            hit = get(scale, row)
            y = integer(target, row) & mask
            if gradient and hit != zero:  # where no row counts, upstream is inf
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
                write_vectors(x, out, base_out + head, chunk, count, rank, held, m, factor, coef == zero)
            if edge >= 0:
                put(out, base_out + edge, gap(x_edge, m) * (factor * inverse) if coef != zero else zero)
            if coef != zero and rank == owner(y, head, count):
                others = s - gap(x_y, m) * inverse if x_y < m else rest
                put(out, base_out + y, pull(coef, others, s))

    return kernel


# ------------------------------ launches ------------------------------


_NAMES = {"f": "float32", "d": "float64", "H": "uint16", "h": "int16"}  # NumPy takes microseconds to name a dtype


def _packed(twin, array):
    """The array itself where a kernel can walk its rows, else a copy."""
    if array.contiguous or ((array.strides[1] == array.itemsize or array.shape[1] == 1) and array.strides[0] >= 0):
        return array
    return twin.packed(array)


def _stride(array):
    return array.shape[1] if array.contiguous else array.strides[0] // array.itemsize


def _aligned(arrays):
    """Whether every row of every array begins as many numbers behind a multiple of 16 bytes, as far as vectors are concerned."""
    first, apart = arrays[0].address // arrays[0].itemsize, _stride(arrays[0])
    for array in arrays[1:]:
        width = 16 // array.itemsize
        if (array.address // array.itemsize - first) % width or (_stride(array) - apart) % width:
            return False
    return True


def _run(twin, make, constants, inputs, result, before, heavy=False):
    """Launch a kernel over the rows of ``inputs``: arguments ``before``, count of rows, classes, strides, alignment."""
    x = inputs[0]
    count, classes, _ = x.shape
    stored = _NAMES[x.dtype.char]
    aligned = _aligned(inputs if result is None else [*inputs, result])
    p = plan.rows(stored, count, classes, aligned, twin.capability, twin.multiprocessors, heavy)
    launch.run(
        twin,
        make,
        (stored, p.width, p.group, p.vectors, p.resident, twin.modern, *constants),
        p.grid,
        p.threads,
        *before,
        count,
        classes,
        *map(_stride, inputs),
        x.address // x.itemsize % (16 // x.itemsize),
        cluster=p.cluster,
        at_once=p.at_once,
    )


def log_softmax(twin, x, out):
    x = _packed(twin, x)
    _run(twin, log_softmax_rows, (), [x], out, (x, out), heavy=x.itemsize == 2)


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
