"""docs/records.md is what numbers.py says, and numbers.py agrees with itself."""

import pytest
from data_script import script

from samerge_edu.suites.published.manifest import TA8
from samerge_edu.suites.published.numbers import PER_TASK, PUBLISHED, RECORDS


def test_the_page_is_what_the_numbers_say():
    records = script("make_records")
    assert records.RECORDS_FILE.read_text(encoding="utf-8") == records.page()


def test_every_record_is_once_on_the_page():
    page = script("make_records").page()
    for r in RECORDS:
        line = f"| {r.method} | {r.year} | {r.needs} | {r.eight:.1f} |"
        assert page.count(line) == sum((s.method, s.year, s.needs, s.eight) == (r.method, r.year, r.needs, r.eight)
                                       for s in RECORDS)  # fmt: skip


def test_every_record_has_a_source_of_a_known_kind_and_percentages():
    for r in RECORDS:
        assert r.kind in ("paper", "repository", "note", "log"), r
        assert r.source, r
        assert all(30 < x < 100 for x in (r.eight, r.fourteen, r.twenty) if x is not None), r
    assert len({(r.method, r.family) for r in RECORDS}) == len(RECORDS)


def test_a_family_stands_together():
    families = [r.family for r in RECORDS]
    starts = [f for i, f in enumerate(families) if i == 0 or families[i - 1] != f]
    assert len(starts) == len(set(starts))


def test_records_and_the_eight_task_table_agree():
    known = {(p.method, p.family): p.average for p in PUBLISHED}
    both = [r for r in RECORDS if (r.method, r.family) in known]
    assert len(both) >= 8
    for r in both:
        assert r.eight == known[r.method, r.family], r


def test_averages_are_those_of_the_tasks():
    for p in PUBLISHED:
        if p.tasks:
            assert sum(p.tasks) / len(TA8) == pytest.approx(p.average, abs=0.08), p  # of rounded tasks
    wudi, sa = PER_TASK.values()
    assert sum(wudi.values()) / 8 == pytest.approx(85.2, abs=0.05)
    assert set(sa) < set(wudi) == set(TA8)
