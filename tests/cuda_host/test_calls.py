"""Laws of every call on GPU arrays: it waits for nothing, copies nothing from or to the host, and leaves nothing behind."""

from pathlib import Path

import numpy as np
import pytest
from calls import CALLS, SHAPES, arrays

FORBIDDEN = ("synchronize", "host_to_device", "device_to_host", "forbidden", "allocate_synchronously", "free_synchronously", "load")


@pytest.fixture(params=SHAPES)
def given(request, recorded):
    return arrays(SHAPES[request.param])


def called(name, given):
    """The call, and the same call once more: the second is a repetition of the first one's steps."""
    return lambda: CALLS[name](*given)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_waits_for_nothing_and_copies_nothing_through_the_host(name, given, recorded):
    call = called(name, given)
    call()  # loads kernels, and makes the record of errors
    recorded.clear()
    call()
    assert not recorded.lines(*FORBIDDEN)
    assert recorded.lines("launch")


@pytest.mark.parametrize("name", CALLS)
def test_also_the_first_call_copies_nothing_through_the_host(name, given, recorded):
    recorded.clear()
    called(name, given)()
    assert not recorded.lines(*FORBIDDEN[:-1])


@pytest.mark.parametrize("name", CALLS)
def test_a_call_can_be_captured_into_a_graph(name, given, recorded):
    call = called(name, given)
    call()
    recorded["capturing"] = 1
    recorded.clear()
    call()
    assert not recorded.lines("forbidden")


def relocated(lines):
    """The launches with the addresses of new memory replaced by the order of their first use; other arguments as they are."""
    blocks, names, found = {}, {}, []
    for line in lines:
        if line.name == "allocate":
            blocks[line.address] = line.bytes
        elif line.name == "launch":
            values = []
            for value in line.arguments:
                inside = any(first <= value < first + size for first, size in blocks.items())
                values.append(("new", names.setdefault(value, len(names))) if inside else value)
            found.append((line.kernel, line.grid, line.block, line.cluster, line.stream, values))
    return found


def without_serials(launches):
    """The serial number of a call is the last argument of the kernels that check targets."""
    return [(kernel, *rest, values[:-1] if "check" in kernel else values) for kernel, *rest, values in launches]


@pytest.mark.parametrize("name", CALLS)
def test_a_repeated_call_launches_what_the_first_one_did(name, given, recorded):
    call = called(name, given)
    call()
    from nbloss.backends import gpu_calls

    gpu_calls._plans.clear()
    # Nothing is freed while a call is recorded, so addresses are not used twice in it.
    first, second = recorded.of(call), recorded.of(call)
    assert without_serials(relocated(first)) == without_serials(relocated(second))
    assert sum(line.name == "allocate" for line in second) <= sum(line.name == "allocate" for line in first)


@pytest.mark.parametrize("name", CALLS)
def test_one_block_of_scratch_memory_is_enough(name, given, recorded):
    call = called(name, given)
    call()
    recorded.clear()
    results = call()
    results = results if isinstance(results, tuple) else (results,)
    new = sum(not any(r is array for array in given) for r in results)
    assert len(recorded.lines("allocate")) <= new + 1
    assert len(recorded.lines("free")) == len(recorded.lines("allocate")) - new


@pytest.mark.parametrize("name", CALLS)
def test_other_arrays_of_the_same_kind_are_read_and_written(name, recorded):
    given, others = arrays(), arrays()
    CALLS[name](*given)
    recorded.clear()
    CALLS[name](*others)
    used = {value for line in recorded.lines("launch") for value in line.arguments}
    assert not used & {array.address for array in given}
    assert used & {array.address for array in others}


@pytest.mark.parametrize("target", ["class numbers", "probabilities"])
def test_a_call_with_another_divisor_is_the_same_call(target, recorded):
    """The divisor changes with each step of a training: it is the only argument that does."""
    import nbloss.functional as F
    from nbloss.backends import gpu_calls

    x, y, p, *_ = arrays((64, 10))
    y = p if target == "probabilities" else y
    values = []
    for divisor in (3.0, 5, np.int64(7)):
        recorded.clear()
        F.cross_entropy_value_and_grad(x, y, divisor=divisor)
        values.append([v for line in recorded.lines("launch") for v in line.arguments])
    assert len(gpu_calls._plans) == 1
    for divisor, given in zip((3.0, 5.0, 7.0), values, strict=True):
        bits = int(np.float64(divisor).view(np.int64))
        assert divisor in given or bits in given
        assert len(given) == len(values[0])
    for bad in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="divisor should be a positive finite number"):
            F.cross_entropy_value_and_grad(x, y, divisor=bad)
    with pytest.raises(ValueError, match="got reduction='sum'"):
        F.cross_entropy_value_and_grad(x, y, divisor=3.0, reduction="sum")


def test_other_sample_weights_are_read_and_others_of_empty_are_another_call(recorded):
    import nbloss.functional as F
    from nbloss.backends import gpu_calls

    x, y, _, _, first = arrays((64, 10))
    *_, second = arrays((64, 10))
    for own in (first, second):
        F.cross_entropy(x, y, sample_weight=own)
        recorded.clear()
        F.cross_entropy(x, y, sample_weight=own)
        assert own.address in [value for line in recorded.lines("launch") for value in line.arguments]
    assert len(gpu_calls._plans) == 1
    F.cross_entropy(x, y, sample_weight=first, empty="zero")
    F.cross_entropy(x, y)
    assert len(gpu_calls._plans) == 3


def test_nothing_is_left_after_a_thousand_calls(recorded):
    given = arrays((64, 10))
    for call in CALLS.values():
        call(*given)
    before = {name: recorded[name] for name in ("allocations", "bytes", "events", "libraries")}
    for number in range(1000):
        list(CALLS.values())[number % len(CALLS)](*given)
    assert before == {name: recorded[name] for name in before}


def test_a_call_that_finds_no_memory_raises_and_leaves_nothing(recorded):
    given = arrays((64, 10))
    call = CALLS["cross_entropy_value_and_grad"]
    for nth in (1, 2, 3):
        call(*given)
        before = recorded["allocations"]
        recorded["failing_allocation"] = nth
        with pytest.raises(Exception, match=r"MEMORY|RECORDED"):
            call(*given)
        recorded["failing_allocation"] = 0
        assert recorded["allocations"] == before


def test_arrays_of_another_kind_take_another_plan(recorded):
    """Each of these differs from the first call in one thing that the choice of kernels depends on."""
    import nbloss
    import nbloss.functional as F

    def of(host, **options):
        x = nbloss.to_device(host, "cuda")
        recorded.clear()
        F.log_softmax(x, **{"dim": 1} | options)
        return recorded.lines("launch")[0].values

    host = np.zeros((64, 1024), np.float32)
    plain = of(host)
    assert of(host)["kernel"] == plain["kernel"]
    assert of(np.zeros((65, 1024), np.float32))["grid"] != plain["grid"]
    x = nbloss.to_device(np.zeros((64, 1025), np.float32), "cuda")
    recorded.clear()
    shifted = x.seen(x.geometry[:, 1:])
    F.log_softmax(shifted, 1)
    assert recorded.lines("launch")[0].arguments[0] == x.address + 4
    assert recorded.lines("launch")[0].arguments[-2:] == [1025, 1]  # the stride of the rows, and the offset from 16 bytes


def test_an_out_that_overlaps_another_array_is_refused_again(recorded):
    import nbloss
    import nbloss.functional as F

    x = nbloss.to_device(np.zeros((64, 1024), np.float32), "cuda")
    out = nbloss.to_device(np.zeros((64, 1024), np.float32), "cuda")
    assert F.log_softmax(x, 1, out=out) is out
    assert F.log_softmax(x, 1, out=out) is out
    both = nbloss.to_device(np.zeros((65, 1024), np.float32), "cuda")
    first, second = both.seen(both.geometry[:64]), both.seen(both.geometry[1:])
    with pytest.raises(ValueError, match="partial overlap"):
        F.log_softmax(first, 1, out=second)


def test_a_bad_option_is_refused_after_a_good_call(recorded):
    import nbloss.functional as F

    x, y, *_ = arrays((64, 10))
    F.cross_entropy(x, y)
    wrong = {"sample_weight": y.reshape((8, 8))}, {"empty": "none"}, {"divisor": 0}
    for options in (*wrong, {"ignore_index": -100.0}, {"label_smoothing": 2.0}, {"reduction": "avg"}, {"device": "cuda:7"}):
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            F.cross_entropy(x, y, **options)


# ------------------------------ docs/gpu.md ------------------------------

# The rows of its table: calls, shapes.
COUNTED = {
    "`log_softmax`, `softmax`, and their backward": (("log_softmax", "log_softmax_backward", "softmax", "softmax_backward"), SHAPES),
    "`cross_entropy`, `nll_loss`, up to 4096 positions and 64 MiB": (
        ("cross_entropy", "cross_entropy sum", "cross_entropy weights", "cross_entropy smoothing", "nll_loss"),
        ("rows", "many", "few"),
    ),
    "`cross_entropy_value_and_grad`, up to 4096 positions and 64 MiB": (
        ("cross_entropy_value_and_grad", "cross_entropy_value_and_grad smoothing", "cross_entropy_value_and_grad scaled"),
        ("rows", "many", "few"),
    ),
    "`cross_entropy`, `nll_loss`, more": (("cross_entropy", "cross_entropy smoothing", "nll_loss"), ("short rows", "images")),
    "`cross_entropy_value_and_grad`, more": (("cross_entropy_value_and_grad",), ("short rows", "images")),
}


@pytest.mark.parametrize("text", COUNTED)
def test_the_documented_numbers_of_launches_and_allocations(text, recorded):
    table = (Path(__file__).parents[2] / "docs" / "gpu.md").read_text().partition("<!-- launches -->")[2].partition("<!-- end")[0]
    (row,) = [line for line in table.splitlines() if line.startswith(f"| {text} |")]
    launches, allocations = (int(cell) for cell in row.split("|")[2:4])
    names, shapes = COUNTED[text]
    found = set()
    for shape in shapes:
        given = arrays(SHAPES.get(shape, (32, 10)))
        for name in names:
            CALLS[name](*given)
            lines = recorded.of(lambda name=name, given=given: CALLS[name](*given))
            found.add((sum(line.name == "launch" for line in lines), sum(line.name == "allocate" for line in lines)))
    assert (max(launch for launch, _ in found), max(allocation for _, allocation in found)) == (launches, allocations)
