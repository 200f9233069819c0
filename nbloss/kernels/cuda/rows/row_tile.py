"""How a group of threads reads and writes a row: 16 bytes per thread and access, for any alignment of the row.

A row consists of a head, vectors and a tail. The head has single numbers up to the first multiple of 16 bytes; the tail has those after
the last whole vector. A thread holds ``vectors`` vectors at a time, and at most one number of the head or tail, its edge. The vectors that
the group holds at one time are a chunk of the row. ``width`` is how many numbers a vector has. Arrays that are not aligned alike are read
with width 1: single numbers, and neighbouring threads still access neighbouring addresses (coalesced).

A thread holds words, as ``prims`` defines them; with width 1 a word is one number.
"""

import inspect

import numpy as np
from numba import cuda
from numba.cuda import types

from nbloss.kernels.cuda.prims.api import device, get, larger_words, maximum, maximum_old, pack, pack_old, put, put_vector, unpack, vector
from nbloss.kernels.cuda.rows.thread_group import group_size
from nbloss.kernels.cuda.unrolled import unrolled, written

PACKED_LOWEST = {"uint16": np.uint32(0xFC00FC00), "int16": np.uint32(0xFF80FF80)}  # by stored half type: two times -inf in one word


@device
def _load_number(p, i):
    return (get(p, i),)


@device
def _unpack_number(p, word):
    return (word,)


class RowTile:
    """The device functions that read and write rows of one stored type, for the kernels that a factory makes.

    ====================  ==============================================================================================
    attribute             meaning
    ====================  ==============================================================================================
    kind                  "float32", "float64" or "half", as in ``exp``
    real, real_type       the computed type, as NumPy's and as Numba's
    word_type, words      type and number of the words that a thread holds
    packed                whether a word is a pair of half numbers
    maximum               of two numbers, for the architecture
    ====================  ==============================================================================================
    """

    def __init__(self, stored, width, group, vectors, resident, sm80):
        half = stored in PACKED_LOWEST
        packed = half and width > 1
        self.kind = "half" if half else stored
        self.real = np.float64 if stored == "float64" else np.float32
        self.real_type = types.float64 if stored == "float64" else types.float32
        self.word_type = types.uint32 if packed else self.real_type
        self.packed, self.width, self.vectors, self.resident = packed, width, vectors, resident
        self.words_per_vector = 4 if packed else width
        self.words = vectors * self.words_per_vector
        self.maximum = maximum if sm80 else maximum_old
        self.load_vector, self.unpack_word = vector if width > 1 else _load_number, unpack if packed else _unpack_number
        self.pack_word = pack if sm80 else pack_old
        self._make_reading(group_size(group), PACKED_LOWEST[stored] if packed else self.real(-np.inf))
        self._make_held_max(larger_words if packed and sm80 else self._larger_words())
        self.write_vector = self._make_writing()
        self.steps = (
            self.split_row,
            self.edge_value,
            self.has_vector,
            self.vector_index,
            self.make_opaque,
            self.unpack_vector,
            self.write_vector,
        )

    def each_chunk(self, step, carried=0, load=None, calls=None):
        """``run(*state, p, base, count, rank, held, *others)``: a pass over the row, whose vectors begin at ``base`` of ``p``.

        For every chunk it calls step(v, *state, chunk, p, base, count, rank, held, *others) for v = 0, 1, ... below ``calls`` (all
        vectors); ``step`` returns new values of its first ``carried`` arguments, the state. The chunk is read into ``held`` if ``load``;
        None means: unless the group holds the whole row.

        Code for such a group has no loop: with a loop that runs once the compiler takes 104 registers for bfloat16 value and gradient
        (sm_90), without it 56.
        """
        names = list(inspect.signature(step).parameters)[1:]
        state, (chunk, *row), others = names[:carried], names[carried : carried + 6], names[carried + 6 :]
        assert [chunk, *row[1:]] == ["chunk", "base", "count", "rank", "held"], names
        result = ", ".join(state)
        assign, given = f"{result} = " if state else "", ", ".join(names)
        p, base, *place = row
        body = [f"{assign}steps({given})"]
        if load or (load is None and not self.resident):
            body.insert(0, f"load_chunk({p}, {base}, chunk, {', '.join(place)})")
        if self.resident:
            lines = ["chunk = 0", *body]
        else:
            lines = ["for chunk in range(chunk_count(count)):", *(f"    {line}" for line in body)]
        steps = unrolled(step, self.vectors if calls is None else calls, carried)
        space = {"steps": steps, "load_chunk": self.load_chunk, "chunk_count": self.chunk_count}
        return written(", ".join([*state, *row, *others]), [*lines, f"return {result}"], space, step.__qualname__)

    def make_zeros(self):
        """``run(p, base, count, rank, held)``: zeros instead of the vectors of a row."""
        has_vector, vector_index, write_vector = self.has_vector, self.vector_index, self.write_vector
        width, real_type, zero = self.width, self.real_type, self.real(0)

        def write_one_vector(v, chunk, p, base, count, rank, held):
            if has_vector(chunk, v, count, rank):
                zeros = cuda.local.array(width, real_type)
                for n in range(width):
                    zeros[n] = zero
                write_vector(p, base + vector_index(chunk, v, rank) * width, zeros)

        return self.each_chunk(write_one_vector, load=False)

    def _make_reading(self, threads, lowest_word):
        width, vectors, resident, words = self.width, self.vectors, self.resident, self.words
        load_vector, unpack_word, words_per_vector = self.load_vector, self.unpack_word, self.words_per_vector
        numbers_per_word = width // words_per_vector
        kept_packed, lowest = self.packed and resident, self.real(-np.inf)

        index = np.int32 if resident else np.int64  # 32 bits count the numbers of a row that registers hold

        @device
        def split_row(first, classes, rank, exists):
            """Length of the head, number of vectors, offset of this thread's edge or -1. A row that does not exist has neither.

            ``first`` is the offset of the row from a multiple of 16 bytes, in numbers.
            """
            head = min((width - first % width) % width, classes)
            count = (classes - head) // width
            tail = head + count * width
            edge = -1
            if not exists:
                count = 0
            elif rank < head:
                edge = rank
            elif rank >= width and rank - width < classes - tail:
                edge = tail + rank - width
            return index(head), index(count), index(edge)

        @device
        def edge_value(p, base, edge):
            return get(p, base + edge) if edge >= 0 else lowest

        @device
        def chunk_count(count):
            return (count + vectors * threads - 1) // (vectors * threads)

        if resident:

            @device
            def has_vector(chunk, v, count, rank):
                """Whether this thread has a vector v of a chunk."""
                return np.int32(count - rank) > np.int32(v * threads)

        else:

            @device
            def has_vector(chunk, v, count, rank):
                return (chunk * vectors + v) * threads + rank < count

        @device
        def vector_index(chunk, v, rank):
            """The number within the row of the vector that this thread holds as its vector v of a chunk."""
            return (chunk * vectors + v) * threads + rank

        def load_one_vector(v, p, base, chunk, count, rank, held):
            """Read vector v of a chunk; the vectors begin at ``base``. Past the end of the row the words are -inf."""
            if has_vector(chunk, v, count, rank):
                loaded = load_vector(p, base + vector_index(chunk, v, rank) * width)
                for k in range(words_per_vector):
                    held[v * words_per_vector + k] = loaded[k]
            else:
                for k in range(words_per_vector):
                    held[v * words_per_vector + k] = lowest_word

        load_chunk = unrolled(load_one_vector, vectors)

        @device
        def make_opaque(held, count, number):
            """``count``, but the compiler does not know that it and ``held`` stay the same: it does not know that 0 <= number < 256.

            Otherwise it would keep the unpacked values of ``held``, in twice as many registers, and a predicate for every vector.
            """
            if kept_packed:
                for k in range(words):
                    held[k] = held[k] ^ np.uint32(number >> 8)
            return count ^ (number >> 8) if resident else count

        @device
        def unpack_vector(p, held, v, numbers):
            """The numbers of a vector in ``held``."""
            for k in range(words_per_vector):
                values = unpack_word(p, held[v * words_per_vector + k])
                for n in range(numbers_per_word):
                    numbers[k * numbers_per_word + n] = values[n]

        @device
        def owner_rank(c, head, count):
            """The rank of the thread that writes class c."""
            if c < head:
                return c
            if c >= head + count * width:
                return width + c - head - count * width
            return ((c - head) // width) % threads

        self.split_row, self.edge_value, self.chunk_count = split_row, edge_value, chunk_count
        self.has_vector, self.vector_index = has_vector, vector_index
        self.load_chunk, self.make_opaque, self.unpack_vector, self.owner_rank = load_chunk, make_opaque, unpack_vector, owner_rank

    def _larger_words(self):
        """The larger numbers of two words, for words that have no instruction for it."""
        maximum, pack_word = self.maximum, self.pack_word

        @device
        def of_pairs(p, a, b):
            u, v = unpack(p, a), unpack(p, b)
            return pack_word(p, (maximum(u[0], v[0]), maximum(u[1], v[1])))

        @device
        def of_numbers(p, a, b):
            return maximum(a, b)

        return of_pairs if self.packed else of_numbers

    def _make_held_max(self, larger):
        words, maximum, unpack_word, numbers_per_word = self.words, self.maximum, self.unpack_word, self.width // self.words_per_vector

        @device
        def held_max(p, held, m):
            """The maximum of m and the numbers in ``held``."""
            word = held[0]
            for k in range(1, words):
                word = larger(p, word, held[k])
            numbers = unpack_word(p, word)
            for n in range(numbers_per_word):
                m = maximum(m, numbers[n])
            return m

        self.held_max = held_max

    def _make_writing(self):
        """``write_vector(p, i, numbers)``: store the numbers of a local array as one vector."""
        pack_word = self.pack_word

        @device
        def eight(p, i, n):
            words = pack_word(p, (n[0], n[1])), pack_word(p, (n[2], n[3])), pack_word(p, (n[4], n[5])), pack_word(p, (n[6], n[7]))
            put_vector(p, i, words)

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
