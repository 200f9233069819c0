"""The simulator runs correct kernels, and reports what the hardware leaves undefined with the line of the kernel."""

import inspect

import numpy as np
import pytest
import simulator
from numba import cuda, float32, int32
from simulator import Fault

ALL_LANES = 0xFFFFFFFF
SEEDS = range(4)


def line_of(function, text):
    """file:line of the first line of a function that contains the text."""
    lines, start = inspect.getsourcelines(function)
    return f"test_simulator.py:{start + next(i for i, line in enumerate(lines) if text in line)}"


def block_sum(x, out):
    """A tree in shared memory: a barrier after each level."""
    shared = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    shared[t] = x[cuda.grid(1)]
    cuda.syncthreads()
    half = 32
    while half > 0:
        if t < half:
            shared[t] += shared[t + half]
        cuda.syncthreads()
        half //= 2
    if t == 0:
        out[cuda.blockIdx.x] = shared[0]


def warp_sum(x, out):
    v = x[cuda.grid(1)]
    for step in (16, 8, 4, 2, 1):
        v += cuda.shfl_xor_sync(ALL_LANES, v, step)
    if cuda.laneid == 0:
        out[cuda.blockIdx.x * 2 + cuda.threadIdx.x // 32] = v


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("kernel", "parts"), [(block_sum, 64), (warp_sum, 32)])
def test_correct_kernels_run_in_any_order_of_threads(kernel, parts, seed, rng):
    simulator.seed(seed)
    x = rng.integers(-100, 100, 192).astype(np.float32)
    out = np.full(192 // parts, np.nan, np.float32)
    cuda.jit(kernel)[3, 64](x, out)
    np.testing.assert_array_equal(out, x.reshape(-1, parts).sum(1))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_seed_determines_the_order_of_threads(seed):
    def order(counter, out):
        out[cuda.grid(1)] = cuda.atomic.add(counter, 0, 1)

    def order_of(seed):
        simulator.seed(seed)
        out = np.zeros(256, np.int64)
        cuda.jit(order)[2, 128](np.zeros(1, np.int64), out)
        assert sorted(out) == list(range(256))
        return out

    np.testing.assert_array_equal(order_of(seed), order_of(seed))
    assert (order_of(seed) != order_of(seed + 100)).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_missing_barrier_is_a_race(seed):
    def shifted(x, out):
        shared = cuda.shared.array(64, float32)
        t = cuda.threadIdx.x
        shared[t] = x[t]
        out[t] = shared[63 - t]

    simulator.seed(seed)
    with pytest.raises(Fault, match="race: .*" + line_of(shifted, "63 - t") + "|race: .*" + line_of(shifted, "= x[t]")):
        cuda.jit(shifted)[1, 64](np.zeros(64, np.float32), np.zeros(64, np.float32))


def test_a_race_within_a_warp_needs_syncwarp():
    def swapped(out, synchronized):
        shared = cuda.shared.array(32, int32)
        t = cuda.threadIdx.x
        shared[t] = t
        if synchronized:
            cuda.syncwarp()
        out[t] = shared[t ^ 1]

    out = np.zeros(32, np.int32)
    cuda.jit(swapped)[1, 32](out, True)
    np.testing.assert_array_equal(out, np.arange(32) ^ 1)
    with pytest.raises(Fault, match="race"):
        cuda.jit(swapped)[1, 32](out, False)


def test_a_divergent_barrier_is_reported_with_both_lines():
    def divergent():
        if cuda.threadIdx.x < 7:
            cuda.syncthreads()  # first line
        else:
            cuda.syncthreads()  # second line

    with pytest.raises(Fault, match="divergent barrier") as caught:
        cuda.jit(divergent)[1, 64]()
    assert line_of(divergent, "first line") in str(caught.value)
    assert line_of(divergent, "second line") in str(caught.value)
    assert "7 threads" in str(caught.value) and "57 threads" in str(caught.value)


def test_two_calls_of_one_device_function_are_two_barriers():
    @cuda.jit(device=True)
    def wait():
        cuda.syncthreads()

    def divergent():
        if cuda.threadIdx.x < 7:
            wait()
        else:
            wait()

    with pytest.raises(Fault, match="divergent barrier"):
        cuda.jit(divergent)[1, 64]()


def test_a_barrier_does_not_wait_for_threads_that_have_left():
    def early(out):
        if cuda.threadIdx.x >= 40:
            return
        cuda.syncthreads()
        out[cuda.threadIdx.x] = 1

    out = np.zeros(64, np.int32)
    cuda.jit(early)[1, 64](out)
    assert out.sum() == 40


@pytest.mark.parametrize(
    ("mask", "said"),
    [(ALL_LANES, "named by mask 0xffffffff, has left the kernel"), (0xFF, "not in its own mask 0xff")],
)
def test_a_shuffle_without_all_of_its_lanes(mask, said):
    def half(out):
        if cuda.threadIdx.x < 16:
            out[cuda.threadIdx.x] = cuda.shfl_xor_sync(mask, cuda.threadIdx.x, 1)

    with pytest.raises(Fault, match=said) as caught:
        cuda.jit(half)[1, 32](np.zeros(32, np.int32))
    assert line_of(half, "shfl") in str(caught.value)


def test_a_shuffle_and_a_barrier_deadlock():
    def crossed():
        if cuda.threadIdx.x < 16:
            cuda.shfl_sync(ALL_LANES, 1, 0)
        else:
            cuda.syncthreads()

    with pytest.raises(Fault, match=r"16 threads wait in shfl_sync .*16 threads wait in syncthreads"):
        cuda.jit(crossed)[1, 32]()


def test_a_shuffle_among_some_lanes():
    def quarter(out):
        t = cuda.threadIdx.x
        if t >= 24:
            out[t] = cuda.shfl_down_sync(0xFF000000, t, 4)
            out[t] += 100 * cuda.ballot_sync(0xFF000000, t % 2)

    out = np.zeros(32, np.int64)
    cuda.jit(quarter)[1, 32](out)
    np.testing.assert_array_equal(out[24:], [28, 29, 30, 31, 28, 29, 30, 31] + 100 * np.int64(0xAA000000))


def test_votes_of_a_block():
    def vote(out):
        t = cuda.threadIdx.x
        out[t] = cuda.syncthreads_count(t % 3 == 0) + 100 * cuda.syncthreads_or(t == 5) + 1000 * cuda.syncthreads_and(t < 63)

    out = np.zeros(64, np.int64)
    cuda.jit(vote)[1, 64](out)
    assert (out == 122).all()


def test_uninitialized_memory_is_nan():
    def reads_uninitialized(out):
        out[0] = cuda.shared.array(8, float32)[3]
        out[1] = cuda.local.array(8, float32)[3]
        out[2] = cuda.shared.array(0, float32)[3]

    out = np.zeros(3, np.float32)
    cuda.jit(reads_uninitialized)[1, 1, 0, 64](out)
    assert np.isnan(out).all()


@pytest.mark.parametrize("index", [-1, 8])
@pytest.mark.parametrize("space", ["argument", "shared", "local"])
def test_an_index_outside(space, index):
    def outside(x):
        shared, local = cuda.shared.array(8, float32), cuda.local.array(8, float32)
        {"argument": x, "shared": shared, "local": local}[space][index] = 1

    with pytest.raises(Fault, match=f"index {index} outside an array of 8"):
        cuda.jit(outside)[1, 1](np.zeros(8, np.float32))


def test_a_fault_names_the_thread():
    def outside(x):
        x[cuda.grid(1)] = 1

    with pytest.raises(Fault) as caught:
        cuda.jit(outside)[2, 4](np.zeros(7, np.float32))
    assert caught.value.__notes__ == ["in thread (3, 0, 0) of block (1, 0, 0)"]


def cluster_sum(x, out, wait_at_end):
    """Each block stores its number; every block adds the numbers of all."""
    part = cuda.shared.array(1, float32)
    if cuda.threadIdx.x == 0:
        part[0] = x[cuda.blockIdx.x]
    cuda.cluster_sync()
    total = 0.0
    for rank in range(cuda.cluster_size()):
        total += cuda.peer(part, rank)[0]
    if wait_at_end:
        cuda.cluster_sync()
    if cuda.threadIdx.x == 0:
        part[0] = total
        out[cuda.blockIdx.x] = part[0]


def clustered(kernel, size):
    kernel = cuda.jit(kernel)
    kernel.cluster = size
    return kernel


@pytest.mark.parametrize("seed", SEEDS)
def test_blocks_of_a_cluster_read_the_memory_of_each_other(seed, rng):
    simulator.seed(seed)
    x, out = rng.integers(0, 9, 8).astype(np.float32), np.zeros(8, np.float32)
    clustered(cluster_sum, 4)[8, 32](x, out, True)
    np.testing.assert_array_equal(out, np.repeat(x.reshape(2, 4).sum(1), 4))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_missing_cluster_barrier_is_a_race(seed):
    simulator.seed(seed)
    with pytest.raises(Fault, match="race"):
        clustered(cluster_sum, 4)[8, 32](np.zeros(8, np.float32), np.zeros(8, np.float32), False)


def test_a_grid_that_does_not_divide_into_clusters():
    with pytest.raises(Fault, match="6 blocks does not divide into clusters of 4"):
        clustered(cluster_sum, 4)[6, 32](np.zeros(8, np.float32), np.zeros(8, np.float32), True)


def test_writes_between_arrival_and_wait_are_a_race():
    def early(out, split):
        part = cuda.shared.array(1, float32)
        rank = cuda.cluster_rank()
        cuda.cluster_sync()
        if not split:
            cuda.peer(part, rank ^ 1)[0] = rank
        cuda.cluster_arrive()
        if split:
            cuda.peer(part, rank ^ 1)[0] = rank
        cuda.cluster_wait()
        out[cuda.blockIdx.x] = part[0]

    out = np.full(4, np.nan, np.float32)
    clustered(early, 2)[4, 1](out, False)
    np.testing.assert_array_equal(out, [1, 0, 1, 0])
    with pytest.raises(Fault, match="race"):
        clustered(early, 2)[4, 1](out, True)


def test_a_relaxed_arrival_publishes_nothing():
    def exchange(out, publishes):
        part = cuda.shared.array(1, float32)
        rank = cuda.cluster_rank()
        cuda.cluster_arrive(False)
        cuda.cluster_wait()
        cuda.peer(part, rank ^ 1)[0] = rank
        cuda.cluster_arrive(publishes)
        cuda.cluster_wait()
        out[cuda.blockIdx.x] = part[0]

    out = np.full(4, np.nan, np.float32)
    clustered(exchange, 2)[4, 1](out, True)
    np.testing.assert_array_equal(out, [1, 0, 1, 0])
    with pytest.raises(Fault, match="race"):
        clustered(exchange, 2)[4, 1](out, False)


@pytest.mark.parametrize(("calls", "said"), [("w", "a wait without an arrival"), ("aa", "a second arrival without a wait")])
def test_the_halves_of_a_cluster_barrier_alternate(calls, said):
    def kernel():
        for call in calls:
            if call == "a":
                cuda.cluster_arrive()
            else:
                cuda.cluster_wait()

    with pytest.raises(Fault, match=said):
        clustered(kernel, 2)[2, 32]()
