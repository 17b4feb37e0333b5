"""What a sweep has kept: exact, never stale, never half a line."""

import json
import math
import shutil

import pytest
from tiny_suite import TinySuite

from samerge_edu import leaderboard
from samerge_edu.methods import METHODS
from samerge_edu.sweep import journal as journals
from samerge_edu.sweep.journal import PACKAGE, Journal, cache_folder, digest

JOB = {"method": "TIES", "tasks": ["a", "b"]}


def test_a_result_comes_back_to_the_last_bit(tmp_path):
    result = [{"id_avg": math.pi / 7, "lam": 0.1 + 0.2, "peak_mb": None, "name": "µ"}]
    Journal(tmp_path / "j", {"v": 1}).write(JOB, result)
    known = Journal(tmp_path / "j", {"v": 1})
    assert JOB in known
    assert dict(reversed(JOB.items())) in known, "the order of the words of a job is nothing"
    assert known.result(JOB) == result


@pytest.mark.parametrize("other", [{"method": "DARE", "tasks": ["a", "b"]}, JOB | {"n": 1}, {"method": "TIES"}])
def test_another_job_has_another_key(tmp_path, other):
    known = Journal(tmp_path / "j", {"v": 1})
    known.write(JOB, 1)
    assert other not in known
    assert JOB not in Journal(tmp_path / "j", {"v": 2})
    assert JOB not in Journal(tmp_path / "j", {"v": 1}, fresh=True)
    assert JOB in Journal(tmp_path / "j", {"v": 1})


def test_a_line_that_was_cut_off_was_never_written(tmp_path):
    known = Journal(tmp_path / "j", {})
    for x in range(3):
        known.write({"x": x}, x)
    whole = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(whole[:-5])
    known = Journal(tmp_path / "j", {})
    assert [{"x": x} in known for x in range(3)] == [True, True, False]
    known.write({"x": 2}, 2)
    assert [Journal(tmp_path / "j", {}).result({"x": x}) for x in range(3)] == [0, 1, 2]
    assert json.loads((tmp_path / "j").read_text(encoding="utf-8").splitlines()[-1])["job"] == {"x": 2}


def test_infinity_is_no_result(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        Journal(tmp_path / "j", {}).write(JOB, math.inf)


def test_the_digest_knows_every_line_of_a_method_and_every_byte_of_a_weight(tmp_path):
    """Change one in a copy of the package: another digest, so another key, so nothing stale."""

    def copy(name):
        heavy = shutil.ignore_patterns("__pycache__", "lora_r*", "experts", "course", "notebooks")
        return shutil.copytree(PACKAGE, tmp_path / name, ignore=heavy)

    same = digest(copy("same"))
    assert same == digest(copy("again"))
    ties = copy("method") / "merges" / "ties.py"
    ties.write_text(ties.read_text(encoding="utf-8").replace("density: float = 0.2", "density: float = 0.3"), "utf-8")
    assert digest(tmp_path / "method") != same
    weights = copy("weight") / "suites" / "pocket" / "weights" / "base" / "open_clip_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert digest(tmp_path / "weight") != same
    (copy("new") / "merges" / "new.py").touch()
    assert digest(tmp_path / "new") != same
    (copy("above") / "cli.py").write_text("", encoding="utf-8")
    assert digest(tmp_path / "above") == same, "the command line changes no number"
    (copy("record") / "studies" / "sparse.json").write_text("{}", "utf-8")
    assert digest(tmp_path / "record") == same, "nor does a record that a study has left"
    (copy("study") / "studies" / "sparse.py").write_text("", "utf-8")
    assert digest(tmp_path / "study") != same


def test_what_numbers_depend_on(monkeypatch):
    about = journals.what_numbers_depend_on()
    assert about["package"] == digest()
    assert about["libraries"]["torch"]
    monkeypatch.setenv("SAMERGE_PRECISION", "bfloat16")
    assert journals.what_numbers_depend_on() == about | {"precision": "bfloat16"}


def test_where_it_is_kept(monkeypatch, tmp_path):
    assert cache_folder().name.startswith("cache")  # conftest's
    monkeypatch.delenv("SAMERGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "samerge_edu"
    assert journals.kept("leaderboard", {"name": "pocket"}).path.parent == tmp_path / "samerge_edu"


def test_a_leaderboard_computes_nothing_twice_unless_something_changed(monkeypatch):
    suite, again = TinySuite(), {"name": "tiny"}
    rows = {name: METHODS[name] for name in ("Average", "TIES")}

    def run(names, **knobs):
        before = suite.encoded
        chosen = {name: rows[name] for name in names}
        record = leaderboard.run(suite, chosen, again=again, journal=journals.kept("board", again, **knobs))
        return record["reference"], record["rows"], suite.encoded - before

    reference, first, cost = run(["Average"])
    assert cost > 0
    assert run(["Average"]) == (reference, first, 0)
    assert 0 < run(["Average", "TIES"])[2] < cost, "only the new row"
    assert run(["Average"], fresh=True)[2] == cost
    monkeypatch.setattr(journals, "digest", lambda: "a line of a method was changed")
    assert run(["Average"])[2] == cost
