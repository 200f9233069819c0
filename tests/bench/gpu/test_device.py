"""What the clock does that needs no GPU: the rotation of buffers, and how an array is repeated."""

from nbloss.bench.gpu.device import Ring, doublings, rotation


def test_the_buffers_are_larger_than_the_cache():
    assert rotation(1 << 20, 50 << 20) == 150
    assert rotation(1 << 33, 50 << 20) == 1
    ring = Ring(3)
    results = [[k] for k in range(5)]
    for result in results:
        ring.keep(result)
    assert list(ring.kept) == results[2:]


def test_an_array_is_repeated_by_copies_of_what_is_there():
    assert list(doublings(1)) == []
    assert list(doublings(6)) == [(1, 1), (2, 2), (4, 2)]
