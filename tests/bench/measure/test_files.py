"""What was written is read again; what was not is refused; two runs are compared by what the memory takes."""

import pytest
from records import FACTS, record

from nbloss.bench import files


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "a.json"
    files.write(path, [record(nbloss=1.0, read=0.5)], FACTS)
    assert files.read([path]) == ([record(nbloss=1.0, read=0.5)], FACTS)


def test_several_files_are_one_run(tmp_path):
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    files.write(a, [record(nbloss=1.0, read=0.5), record(shape="9x5", nbloss=1.0, read=0.5)], FACTS)
    files.write(b, [record(nbloss=2.0, read=0.5)], FACTS | {"others_cpus": 0.5})
    records, facts = files.read([a, b])
    assert [(r["shape"], r["contenders"]["nbloss"]["seconds"]) for r in records] == [("7x5", 2.0), ("9x5", 1.0)]
    assert facts["others_cpus"] == 0.5
    files.write(b, [], FACTS | {"processor": "Slide rule"})
    with pytest.raises(ValueError, match="different machines"):
        files.read([a, b])


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"machine": 1, "races": [2]}', "\xff\xfe"])
def test_another_file_is_refused_by_its_name(tmp_path, content):
    (tmp_path / "odd.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"odd\.json"):
        files.read([tmp_path / "odd.json"])


def test_a_comparison_sees_through_a_slow_machine():
    then = [record(nbloss=1.0, read=0.5), record(shape="9x5", nbloss=1.0, read=0.5), record(shape="8x5", nbloss=1.0, read=0.5)]
    now = [record(nbloss=2.0, read=1.0), record(shape="9x5", nbloss=1.0, read=0.25), record(shape="8x5", nbloss=0.5, read=0.5)]
    _, same, slower, faster = files.compare(then, now).split("\n")
    assert "same" in same and "2.00 -> 2.00" in same
    assert "SLOWER" in slower and "(+100%)" in slower
    assert "FASTER" in faster and "(-50%)" in faster


def test_a_comparison_of_nothing_says_so():
    assert "no race" in files.compare([record(nbloss=1.0, read=0.5)], [record(dtype="float64", nbloss=1.0, read=0.5)])
