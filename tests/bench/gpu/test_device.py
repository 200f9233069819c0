"""The rotation of buffers, which needs no GPU."""

from nbloss.bench.gpu.device import Ring, rotation


def test_the_buffers_are_larger_than_the_cache():
    assert rotation(1 << 20, 50 << 20) == 150
    assert rotation(1 << 33, 50 << 20) == 1
    ring = Ring(3)
    results = [[k] for k in range(5)]
    for result in results:
        ring.keep(result)
    assert list(ring.kept) == results[2:]
