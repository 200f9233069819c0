"""Result files are written and read, and other files are refused."""

import pytest
from records import FACTS, record

from nbloss.bench.measure import files


def test_a_written_file_is_read_again(tmp_path):
    path = tmp_path / "a.json"
    files.write(path, [record(nbloss=1.0, read=0.5)], FACTS)
    assert files.read([path]) == ([record(nbloss=1.0, read=0.5)], FACTS)


def test_several_files_are_read_as_one_run(tmp_path):
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
def test_the_error_names_a_file_of_another_kind(tmp_path, content):
    (tmp_path / "odd.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"odd\.json"):
        files.read([tmp_path / "odd.json"])
