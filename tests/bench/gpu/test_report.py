"""The GPU races as a table, as JSON and as a picture."""

import json

from nbloss.bench.gpu import report

FACTS = {"device": "Test GPU", "capability": "9.0", "multiprocessors": 4, "copy_bytes_per_second": 1e12, "versions": {"nbloss": "1"}}


def timed(seconds, to_nbloss):
    return {"seconds": seconds, "low": seconds, "high": seconds, "host_seconds": 1e-6, "share": 0.5, "to_nbloss": to_nbloss}


RECORD = {
    "operation": "cross_entropy", "shape": [64, 10], "dtype": "float32", "bytes": 3072,
    "contenders": {"nbloss": timed(2e-6, 1.0), "torch": timed(8e-6, 4.0), "torch.compile": {"wrong": "off by 1.0e-01"},
                   "triton": {"absent": "not installed"}, "other": {"failed": "RuntimeError: of an unknown version"}},
}  # fmt: skip


def test_the_files_have_the_record_the_table_and_the_picture(tmp_path):
    record = RECORD
    report.write(tmp_path, [record, record | {"dtype": "bfloat16"}], FACTS)
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept["machine"] == FACTS and kept["races"][0] == record
    text = (tmp_path / "results.txt").read_text()
    assert text.index("  nbloss") < text.index("  torch ") < text.index("triton  absent: not installed")
    assert "4.00" in text and "Test GPU (sm_9.0)" in text
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_files_are_written_without_records_too(tmp_path):
    report.write(tmp_path, [], FACTS)
    assert json.loads((tmp_path / "results.json").read_text())["races"] == []


def test_every_record_is_in_the_file_at_once(tmp_path):
    lines = report.Lines(tmp_path)
    for dtype in ("float32", "bfloat16"):
        lines.add(RECORD | {"dtype": dtype})
        assert json.loads((tmp_path / "races.jsonl").read_text().splitlines()[-1])["dtype"] == dtype
    assert len(lines.read()) == 2
    assert report.Lines(tmp_path).read() == []  # a new run begins a new file
