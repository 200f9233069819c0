"""The facts about the machine."""

from records import FACTS

from nbloss.bench.measure import machine


def test_a_busy_machine_gives_a_warning():
    assert "NOT A RESULT" in machine.about(FACTS | {"others_cpus": 1.5})
    assert "NOT" not in machine.about(FACTS | {"others_cpus": 0.02}) + machine.about(FACTS)


def test_the_busy_meter_gives_a_number_or_nothing():
    others = machine.BusyMeter().others
    assert sum(range(10**6)) and (others() is None or others() >= 0)


def test_worker_processes_do_not_count_as_others():
    used = iter([0.0, 1e6])
    others = machine.BusyMeter(lambda: next(used)).others()
    assert others is None or others == 0


def test_the_facts_have_machine_and_versions_and_no_folders(monkeypatch):
    monkeypatch.setenv("NBLOSS_CACHE_DIR", "/somewhere/private")
    monkeypatch.setenv("NBLOSS_NUM_THREADS", "2")
    facts = machine.facts()
    assert facts["processor"] and facts["cpus"] >= 1 and facts["versions"]["nbloss"] and facts["versions"]["numpy"]
    assert facts["environment"]["NBLOSS_NUM_THREADS"] == "2"
    assert "private" not in str(facts)
