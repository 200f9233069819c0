"""The variants as text, as tables and as a heat map."""

import pytest
from records import FACTS, record, variant

from nbloss.bench.report import variants

GOOD = variant(name="sum", shape="65536x10", ratio=1.05, limit=1.1, to_torch=3.0)
HIGH = variant(name="weight", shape="65536x10", ratio=1.3, limit=1.15, to_torch=3.0)
LOST = variant(name="weight", shape="32x10", ratio=1.1, limit=1.15, to_torch=0.5)
SMALL = variant(name="smoothing", shape="32x10", ratio=4.0, limit=2, to_torch=0.9)
ALONE = variant(name="smoothing", shape="65536x10", ratio=1.2, limit=1.3, to_torch=None, torch={"absent": "not installed"})
FAILED = variant("nll_loss", "weight", ratio=None, to_torch=None, nbloss={"failed": "ValueError: out"})
AXIS = variant("log_softmax", "axis 0, C order", "1024x1024", ratio=1.5, limit=2, to_torch=1.0)
RECORDS = [LOST, SMALL, GOOD, HIGH, ALONE, FAILED, AXIS]


def test_a_line_has_the_ratio_its_limit_and_torch_s_ratio():
    shown = "cross_entropy_value_and_grad sum 65536x10 2 ms 1.05x plain 0.95 - 1.16 wanted 1.1 torch 3x"
    assert " ".join(variants.line(GOOD).split()) == shown
    assert variants.line(HIGH).endswith("ABOVE") and variants.line(LOST).endswith("SLOWER THAN TORCH")
    assert variants.line(SMALL).endswith("ABOVE  SLOWER THAN TORCH")
    assert variants.line(ALONE).endswith("torch absent: not installed")
    assert variants.line(FAILED).endswith("failed: ValueError: out")


def test_results_of_bench_are_no_variants():
    with pytest.raises(ValueError, match="bench --variants"):
        variants.line(record(nbloss=1.0, read=1.0))


def test_the_table_has_variants_by_shapes_for_each_operation():
    lines = [" ".join(line.split()) for line in variants.table(RECORDS).splitlines()]
    assert lines[:4] == [
        "cross_entropy_value_and_grad wanted 65536x10 32x10",
        "weight 1.15 1.30^, 3x 1.10, 0.5x!",
        "sum 1.1 1.05, 3x",
        "smoothing 1.3; 32x10: 2 1.20 4.00^, 0.9x!",
    ]
    assert lines[4:] == [
        "",
        "nll_loss wanted 32x10",
        "weight 1.15 -",
        "",
        "log_softmax wanted 1024x1024",
        "axis 0, C order 2 1.50, 1x",
        "",
        lines[-1],
    ]
    assert "above the wanted limit" in lines[-1] and "slower than torch" in lines[-1]


def test_the_last_line_counts_both():
    assert variants.verdict(RECORDS).splitlines()[-1] == "4 of 6 within the wanted limits; 3 of 5 faster than torch; 1 not timed"
    assert variants.tally([GOOD]) == "1 of 1 within the wanted limits; 1 of 1 faster than torch"


def test_the_verdict_names_the_worst_first():
    words = [line.split() for line in variants.verdict(RECORDS).splitlines()[:-1]]
    assert [(w[0], w[2]) for w in words] == [("above", "smoothing"), ("above", "weight"), ("slower", "weight"), ("slower", "smoothing")]


def test_the_page_has_a_table_for_each_operation_and_the_misses():
    lines = variants.markdown(RECORDS, FACTS)
    assert "| `cross_entropy_value_and_grad` | wanted | 65536x10 | 32x10 |" in lines
    assert "| weight | 1.15 | **1.30, 3x** | **1.10, 0.5x** |" in lines
    assert "| smoothing | 1.3; 32x10: 2 | 1.20 | **4.00, 0.9x** |" in lines
    assert "Missed: `cross_entropy_value_and_grad smoothing 32x10` (4.00, wanted 2)" in lines[-1]
    assert "NOT A RESULT" not in " ".join(lines)
    assert any("NOT A RESULT" in line for line in variants.markdown(RECORDS, FACTS | {"others_cpus": 1.0}))
    assert "Missed" not in variants.markdown([GOOD], FACTS)[-1]


def test_the_heat_map_has_a_cell_with_its_number_for_each_record():
    pytest.importorskip("matplotlib")
    from matplotlib.colors import to_rgba

    figure = variants.heat_map(RECORDS, FACTS)
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")}
    assert list(panels) == ["cross_entropy_value_and_grad", "nll_loss", "log_softmax"]
    first = panels["cross_entropy_value_and_grad"]
    assert [label.get_text() for label in first.get_yticklabels()] == ["weight", "sum", "smoothing"]
    assert [label.get_text() for label in first.get_xticklabels()] == ["65536x10", "32x10"]
    assert sorted(text.get_text() for text in first.texts) == ["1.05", "1.10", "1.20", "1.30", "4.00"]
    assert [text.get_text() for text in panels["nll_loss"].texts] == ["-"]
    frames = [patch for patch in first.patches if not patch.get_fill()]
    assert len(frames) == 2, "slower than torch"
    red, blue = to_rgba("#d7301f"), to_rgba("#2c7fb8")
    faces = [patch.get_facecolor() for patch in first.patches if patch.get_fill()]
    assert red in faces, "twice its limit"
    assert blue not in faces
