"""How a group of threads walks a row: 16 bytes per thread and step, whatever the row's alignment.

A row is a head of single numbers up to the first multiple of 16 bytes, whole vectors, and a tail. A thread holds ``vectors`` vectors at
a time (what the group holds is a chunk of the row) and at most one number of head or tail, its edge. ``width`` is how many numbers a
vector has; arrays that are not aligned alike are walked with width 1: single numbers, neighbours still side by side.

What a thread holds are words, as ``prims`` has them, and with width 1 numbers.
"""

import inspect

import numpy as np
from numba.cuda import types

from nbloss.kernels.cuda.prims.api import device, get, larger_words, maximum, maximum_old, pack, pack_old, put, put_vector, unpack, vector
from nbloss.kernels.cuda.rows.thread_group import group_size

HALVES = {"uint16": np.uint32(0xFC00FC00), "int16": np.uint32(0xFF80FF80)}  # a stored half type: its -inf, twice


def unrolled(step, count, carried=0):
    """``run(*arguments)``: step(0, *arguments), step(1, *arguments), ..., written out; the first ``carried`` arguments are its results.

    No loop: compilers do not unroll long ones, and an array that a loop's variable indexes is in memory, not in registers.
    """
    names = list(inspect.signature(step).parameters)[1:]
    given, state = ", ".join(names), ", ".join(names[:carried])
    lines = [f"    {state + ' = ' if state else ''}step({k}, {given})\n" for k in range(count)]
    source = f"def run({given}):\n{''.join(lines)}    return {state}\n"
    space = {"step": device(step)}
    exec(compile(source, f"<{step.__qualname__} {count} times>", "exec"), space)
    return device(space["run"])


@device
def _load_one(p, i):
    return (get(p, i),)


@device
def _open_one(p, word):
    return (word,)


class RowTile:
    """The device functions of one way to walk rows of a stored type, for the kernels that a factory makes.

    ``number`` and ``kind`` name what is computed in (for ``maths``: "half" too), ``word`` and ``held`` what a thread holds.
    ``load`` and ``open`` are for words of any kind, ``maximum`` is that of the architecture.
    """

    def __init__(self, stored, width, group, vectors, resident, sm80):
        packed = stored in HALVES and width > 1
        self.kind = "half" if stored in HALVES else stored
        self.number = np.float64 if stored == "float64" else np.float32
        self.shared = types.float64 if stored == "float64" else types.float32
        self.word = types.uint32 if packed else self.shared
        self.packed, self.width, self.vectors, self.resident = packed, width, vectors, resident
        self.per_vector = 4 if packed else width
        self.held = vectors * self.per_vector
        self.maximum = maximum if sm80 else maximum_old
        self.load, self.open = vector if width > 1 else _load_one, unpack if packed else _open_one
        self.close = pack if sm80 else pack_old
        self._walk(group_size(group), HALVES[stored] if packed else self.number(-np.inf))
        self._search(larger_words if packed and sm80 else self._larger())
        self.write = self._writing()
        self.steps = self.split, self.edge_of, self.chunks, self.at, self.fill, self.renew, self.opened, self.write

    def _walk(self, threads, lowest):
        width, vectors, resident, load, per_vector = self.width, self.vectors, self.resident, self.load, self.per_vector
        packed, words = self.packed and resident, self.held
        number_lowest, open_, per_word = self.number(-np.inf), self.open, width // per_vector

        @device
        def split(first, classes, rank):
            """Head, count of vectors, this thread's edge or -1, of a row that begins ``first`` numbers behind a multiple of 16 bytes."""
            head = min((width - first % width) % width, classes)
            count = (classes - head) // width
            tail = head + count * width
            edge = -1
            if rank < head:
                edge = rank
            elif rank >= width and rank - width < classes - tail:
                edge = tail + rank - width
            return head, count, edge

        @device
        def edge_of(p, base, edge):
            return get(p, base + edge) if edge >= 0 else number_lowest

        @device
        def chunks(count):
            return 1 if resident else (count + vectors * threads - 1) // (vectors * threads)

        @device
        def at(chunk, v, rank):
            """The number of a vector in its row."""
            return (chunk * vectors + v) * threads + rank

        def fill_vector(v, p, base, chunk, count, rank, held):
            """Read vector v of a chunk of those that begin at ``base``; the lowest number where there is none."""
            j = at(chunk, v, rank)
            if j < count:
                words = load(p, base + j * width)
                for k in range(per_vector):
                    held[v * per_vector + k] = words[k]
            else:
                for k in range(per_vector):
                    held[v * per_vector + k] = lowest

        fill = unrolled(fill_vector, vectors)

        @device
        def renew(held, zero):
            """Words that the compiler has not seen before, or it would keep what it unpacked in twice the registers; 0 <= zero < 256."""
            if packed:
                for k in range(words):
                    held[k] = held[k] ^ np.uint32(zero >> 8)

        @device
        def opened(p, held, v, numbers):
            """The numbers of a vector that is held."""
            for k in range(per_vector):
                values = open_(p, held[v * per_vector + k])
                for n in range(per_word):
                    numbers[k * per_word + n] = values[n]

        @device
        def owner(c, head, count):
            """The rank of the thread that has class c."""
            if c < head:
                return c
            if c >= head + count * width:
                return width + c - head - count * width
            return ((c - head) // width) % threads

        self.split, self.edge_of, self.chunks, self.at, self.fill = split, edge_of, chunks, at, fill
        self.renew, self.opened, self.owner = renew, opened, owner

    def _larger(self):
        """Word by word the larger numbers, where there is no instruction for it."""
        largest, close = self.maximum, self.close

        @device
        def of_pairs(p, a, b):
            u, v = unpack(p, a), unpack(p, b)
            return close(p, (largest(u[0], v[0]), largest(u[1], v[1])))

        @device
        def of_numbers(p, a, b):
            return largest(a, b)

        return of_pairs if self.packed else of_numbers

    def _search(self, larger):
        count, largest, open_ = self.held, self.maximum, self.open

        @device
        def top(p, held, m):
            """The largest of m and the numbers held."""
            word = held[0]
            for k in range(1, count):
                word = larger(p, word, held[k])
            for number in open_(p, word):
                m = largest(m, number)
            return m

        self.top = top

    def _writing(self):
        """``write(p, i, numbers)``: a vector made of the numbers of a local array."""
        close = self.close

        @device
        def eight(p, i, n):
            put_vector(p, i, (close(p, (n[0], n[1])), close(p, (n[2], n[3])), close(p, (n[4], n[5])), close(p, (n[6], n[7]))))

        @device
        def four(p, i, n):
            put_vector(p, i, (n[0], n[1], n[2], n[3]))

        @device
        def two(p, i, n):
            put_vector(p, i, (n[0], n[1]))

        @device
        def one(p, i, n):
            put(p, i, n[0])

        return {8: eight, 4: four, 2: two, 1: one}[self.width]
