"""How a thread reads and writes its classes: neighbouring positions together, so that an access moves 8 or 16 bytes.

``width`` is how many positions a thread has. Their numbers of one class are neighbours in memory. A thread holds words, as ``prims``
defines them: a word is a pair of half numbers, or one number. With width 1 an access moves one number, which may be at any address.
"""

import inspect

from numba.cuda import types

from nbloss.kernels.cuda.exp import REAL_TYPE
from nbloss.kernels.cuda.prims.api import device, get, pack, pack_old, put, put_short_vector, put_vector, short_vector, unpack, vector
from nbloss.kernels.cuda.tuning import POSITIONS_ACCESS_BYTES, POSITIONS_MAX_BYTES
from nbloss.kernels.cuda.unrolled import unrolled, written


def per_thread(classes, inner, arrays):
    """How many positions a thread takes. ``arrays`` are what it accesses in the same places: C-ordered arrays of one dtype."""
    size = arrays[0].itemsize
    for access in POSITIONS_ACCESS_BYTES:
        fits = classes * access <= POSITIONS_MAX_BYTES[size]
        if fits and inner % (access // size) == 0 and not any(array.address % access for array in arrays):
            return access // size
    return 1


@device
def _get_one(p, i):
    return (get(p, i),)


@device
def _put_one(p, i, words):
    put(p, i, words[0])


@device
def _unpack_one(p, word):
    return (word,)


class Positions:
    """The device functions that read and write the positions of a thread, for the kernels that a factory makes.

    =============  ======================================================================================================
    attribute      meaning
    =============  ======================================================================================================
    word_type      type of the words that a thread holds
    words          how many words that is
    pair           positions of a word: 2 for pairs of half numbers, otherwise 1
    numbers        how many numbers the columns of a word are
    load, store    ``load(p, base, inner, held)``: the words of all classes, whose offsets are base + c * inner
    =============  ======================================================================================================
    """

    def __init__(self, kind, sm80, classes, width):
        packed = kind == "half" and width > 1
        self.pair = 2 if packed else 1
        self.word_type = types.uint32 if packed else REAL_TYPE[kind]
        self.classes, self.width = classes, width
        self.words_per_class = width // self.pair
        self.words, self.numbers = classes * self.words_per_class, classes * self.pair
        self._unpack, self._pack = unpack if packed else _unpack_one, pack if sm80 else pack_old
        self._make_access(self.words_per_class * (8 if kind == "float64" else 4))
        self._make_columns(packed)

    def _make_access(self, size):
        vectors = {8: (short_vector, put_short_vector), 16: (vector, put_vector)}
        get_words, put_words = vectors[size] if self.width > 1 else (_get_one, _put_one)
        count = self.words_per_class

        def load_class(c, p, base, inner, held):
            words = get_words(p, base + c * inner)
            for k in range(count):
                held[c * count + k] = words[k]

        def store_one(c, p, base, inner, held):
            put_words(p, base + c * inner, (held[c],))

        def store_two(c, p, base, inner, held):
            put_words(p, base + c * inner, (held[2 * c], held[2 * c + 1]))

        def store_four(c, p, base, inner, held):
            put_words(p, base + c * inner, (held[4 * c], held[4 * c + 1], held[4 * c + 2], held[4 * c + 3]))

        self.load = unrolled(load_class, self.classes)
        self.store = unrolled({1: store_one, 2: store_two, 4: store_four}[count], self.classes)

    def _make_columns(self, packed):
        """``take(k, p, held, column)``: the numbers of word k of every class. ``put_back`` is the way back."""
        count, pair, unpack_word, pack_word = self.words_per_class, self.pair, self._unpack, self._pack

        def take_class(c, k, p, held, column):
            numbers = unpack_word(p, held[c * count + k])
            for n in range(pair):
                column[c * pair + n] = numbers[n]

        def put_back_pair(c, k, p, held, column):
            held[c * count + k] = pack_word(p, (column[2 * c], column[2 * c + 1]))

        def put_back_one(c, k, p, held, column):
            held[c * count + k] = column[c]

        self._take = unrolled(take_class, self.classes)
        self._put_back = unrolled(put_back_pair if packed else put_back_one, self.classes)

    def each(self, step, writes=True):
        """``run(stored, held, column, *others)``: calls step(n, column, first, *others) for every position n of the thread.

        Class c of the position is ``column[first + c * pair]``. Before it is a pair's turn, its numbers are in ``column``; afterwards what
        the steps left there goes back if ``writes``. So only one pair of half numbers is unpacked at a time, which saves registers.
        """
        others = ", ".join(list(inspect.signature(step).parameters)[3:])
        lines = []
        for k in range(self.words_per_class):
            lines.append(f"take({k}, stored, held, column)")
            lines += [f"step({k * self.pair + n}, column, {n}, {others})" for n in range(self.pair)]
            if writes:
                lines.append(f"put_back({k}, stored, held, column)")
        space = {"step": device(step), "take": self._take, "put_back": self._put_back}
        return written(f"stored, held, column, {others}", lines, space, f"{step.__qualname__} of {self.width} positions")
