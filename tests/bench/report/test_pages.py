"""Tables are written between their marks, and the tables of this repository are the generated ones."""

from pathlib import Path

import pytest
from records import FACTS, record, variant

from nbloss.bench.measure import files
from nbloss.bench.report import pages

ROOT = Path(__file__).parents[3]
PAGE = "before\n<!-- nbloss bench: short -->\nold\n<!-- end of nbloss bench -->\nafter\n"
RECORDS = [record("cross_entropy_value_and_grad", "32x10", yardstick="copy", nbloss=1e-3, torch=2e-3, copy=5e-4),
           record("cross_entropy", "32x10", nbloss=2e-3, torch=1e-3, read=5e-4)]  # fmt: skip


def test_a_page_is_filled_between_its_marks_and_nowhere_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    pages.fill(page, RECORDS, FACTS)
    text = page.read_text()
    assert text.startswith("before\n<!-- nbloss bench: short -->\nMeasured 2026-01-02 on 2 cpus of an Abacus, two wires")
    assert text.endswith("\n<!-- end of nbloss bench -->\nafter\n")
    assert "| cross_entropy_value_and_grad  32x10 float32 | **1 ms** | 2.00 copy | 2x |" in text
    assert "| cross_entropy  32x10 float32" not in text, "the short table has the loss with gradient only"
    assert "Lost: `cross_entropy 32x10 float32` to torch (0.50x)." in text, "but it names the lost races of all operations"
    assert pages.filled(text, RECORDS, FACTS) == text


def test_a_full_table_has_every_race():
    text = pages.filled(PAGE.replace("short", "full"), RECORDS, FACTS)
    assert "| cross_entropy  32x10 float32 | 2 ms | 4.00 read | **0.5x** |" in text


def test_the_table_of_near_races_shows_a_third_of_the_rival_s_time():
    near = record("nll_loss", "5x7", nbloss=2e-3, torch=1e-3, jax=3e-3, read=1e-3) | {"torch.compile": {"absent": "no"}}
    far = record("log_softmax", "5x7", yardstick="copy", nbloss=1e-3, jax=3e-3, copy=1e-3)
    many = record("log_softmax", "5x101", yardstick="copy", nbloss=1e-3, jax=1e-3, copy=1e-3)
    alone = record("log_softmax", "5x7", yardstick="copy", nbloss=1e-3, copy=1e-3)
    page = PAGE.replace("short", "threefold")
    lines = pages.filled(page, [near, far, many, alone], FACTS).splitlines()
    assert lines[4:-2] == ["| nll_loss  5x7 float32 | jax | 1.5x | 2.00 read | 1.00 read | 1.00 read |"]
    assert "Nowhere." in pages.filled(page, [far, many, alone], FACTS)


def test_a_page_has_the_warning_of_a_busy_machine_too():
    assert "NOT A RESULT" in pages.filled(PAGE, RECORDS, FACTS | {"others_cpus": 1.0})


@pytest.mark.parametrize("text", ["", PAGE.replace("short", "tall"), PAGE.replace("end of", "")])
def test_a_page_without_a_block_is_refused(text, tmp_path):
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(ValueError, match=r"page\.md"):
        pages.read(tmp_path / "page.md")


def test_tables_of_other_results_stay_as_they_are():
    """A page may have tables of several commands; each fills in its own."""
    of_variants = PAGE.replace("short", "variants")
    text = pages.filled(PAGE + of_variants, RECORDS, FACTS)
    assert text.endswith(of_variants) and not text.startswith(PAGE)
    text = pages.filled(PAGE + of_variants, [variant()], FACTS)
    assert text.startswith(PAGE) and not text.endswith(of_variants) and "| weight | 1.15 | **1.50, 2x** |" in text


@pytest.mark.skipif(not (ROOT / "docs" / "bench.json").exists(), reason="the wheel does not contain the pages")
@pytest.mark.parametrize(
    ("page", "numbers"),
    [
        ("docs/overview.md", "bench"),
        ("docs/performance.md", "bench"),
        ("docs/operations.md", "operations"),
        ("docs/performance.md", "variants"),
        ("docs/bench-options.md", "options"),
    ],
)
def test_the_tables_of_this_repository_are_those_that_bench_fills_in(page, numbers):
    text = pages.read(ROOT / page)
    if not (ROOT / "docs" / f"{numbers}.json").exists():
        pytest.skip("no run is on record")
    assert pages.filled(text, *files.read([ROOT / "docs" / f"{numbers}.json"])) == text
