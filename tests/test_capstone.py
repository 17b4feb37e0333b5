"""Submissions: read without being run, merged alone, measured on images they cannot know, ranked; three are graded."""

import json
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny_suite import TinySuite
from typer.testing import CliRunner

from samerge_edu import cli
from samerge_edu.contract import example_taus
from samerge_edu.course.bank import exercise
from samerge_edu.course.capstone import alone, ranking, submission
from samerge_edu.course.limits import CAN_FORK, run_limited

CAPSTONE = Path(submission.__file__).parent
EXAMPLES = CAPSTONE / "examples"
NAMES = ("limiter", "strongest_half", "best_students")

HEAD = 'import torch\nimport samerge_edu as se\nNAME, AUTHOR = "Mean", "Ada"\nNEEDS = "none"\nLAM = 1.0\n'
MEAN = "def method(taus):\n    return {k: sum(tau[k] for tau in taus) / len(taus) for k in taus[0]}\n"


@pytest.fixture
def file(tmp_path):
    """Write a submission, return its path."""

    def write(text: str, name: str = "mine.py") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


# ---------------------------------------------------------------------------- reading


def test_a_submission_is_read_and_not_run(file):
    read = submission.read(file('raise SystemExit("I ran")\n' + HEAD + MEAN))
    assert (read.name, read.author, read.needs, read.lam, read.asks) == ("Mean", "Ada", "none", 1.0, ())


@pytest.mark.parametrize(
    ("method", "asks"),
    [
        ("method = se.pipe(a, b)", ()),
        ("def method(taus, theta_0, flow): ...", ("theta_0", "flow")),
        ("def method(taus, density=0.5, *, seed=1): ...", ()),
        ("def method(experts, *, flow): ...", ("flow",)),
    ],
)
def test_what_a_method_asks_for_is_read_off_its_arguments(file, method, asks):
    assert submission.read(file(HEAD + method)).asks == asks


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def method(:", "is no Python"),
        (HEAD, "got no function `method`"),
        (MEAN, "NAME: got None, expected NAME = a word in quotes"),
        (HEAD.replace('"Ada"', '" "') + MEAN, "NAME and AUTHOR: got an empty one"),
        (HEAD.replace('"Ada"', "7") + MEAN, "AUTHOR: got 7"),
        (HEAD.replace("1.0", "-1.0") + MEAN, "LAM: got -1.0, expected a number above 0"),
        (HEAD.replace("1.0", "True") + MEAN, "LAM: got True, expected LAM = a number above 0"),
        (HEAD.replace("1.0", "1e999") + MEAN, "LAM: got inf"),
        (HEAD.replace('"none"', '"test labels"') + MEAN, "NEEDS: got 'test labels', expected one of none, unlabelled"),
        (HEAD.replace('"none"', '"labelled"') + MEAN, "NEEDS says 'labelled', and `method` does not ask"),
        (HEAD + "def method(taus, validation): ...", "NEEDS says 'none', and `method` asks for validation images"),
        (HEAD + "def method(taus, suite): ...", "got `suite`, expected taus and then any of theta_0, flow, validation"),
        (HEAD + "def method(): ...", "expected taus and then any of"),
    ],
)
def test_a_bad_head_is_refused_with_what_is_expected(file, text, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        submission.read(file(text))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        submission.read(tmp_path / "none.py")


def test_a_new_submission_passes_its_own_reading_and_nothing_is_written_over(tmp_path):
    written = submission.new(tmp_path / "mine")
    assert [path.name for path in written] == ["my_method.py", "report.md", "rubric.md"]
    assert submission.read(written[0]).needs == "none"
    with pytest.raises(ValueError, match=r"my_method\.py is there already"):
        submission.new(tmp_path / "mine")


# ---------------------------------------------------------------------------- merging alone

in_a_child = pytest.mark.skipif(not CAN_FORK, reason="the doors are closed for good, so a child has to do it")


def work(path: Path, given=None, seconds: float = 30.0) -> dict:
    """What the merging process finds, on small task vectors; the doors close in a child."""
    read, taus = submission.read(path), example_taus(torch.float32)
    return run_limited(partial(alone._work, read, taus, given or {}, path.parent), seconds, 1024)


@in_a_child
def test_a_good_method_passes_and_its_update_is_what_it_returned(file):
    found = work(file(HEAD + MEAN))
    assert ranking.problems(found) == []
    assert len(found["checks"]) == 5
    assert found["holds"]["The order of the experts does not matter."] is None
    from samerge_edu.files import load_params

    taus = example_taus(torch.float32)
    tau_m = load_params(file("", "x.py").parent / "tau_m.safetensors")
    torch.testing.assert_close(tau_m["visual.proj"], sum(tau["visual.proj"] for tau in taus) / 3)


@in_a_child
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("    raise KeyError('w')", "it merges the experts (KeyError: 'w')"),
        ("    return dict(list(taus[0].items())[1:])", "names that differ"),
        ("    return {k: v.double() for k, v in taus[0].items()}", "got (12, 4), torch.float64, expected"),
        ("    return {k: v / 0 for k, v in taus[0].items()}", "got NaN or infinity"),
        ("    return {k: v.add_(1) for k, v in taus[0].items()}", "the task vectors given are left alone"),
        ("    return {k: torch.randn_like(v) for k, v in taus[0].items()}", "the same task vectors give the same"),
        ("    se.load_suite('pocket')", "closed: a submission works with what it is given"),
        ("    import samerge_edu.suites.pocket.tasks", "closed: a submission works with what it is given"),
        ("    from samerge_edu.evaluate import accuracy", "closed: a submission works with what it is given"),
        ("    return se.suites", "closed: a submission works with what it is given"),
        ("    import subprocess; subprocess.run(['ls'])", "closed: a submission works with what it is given"),
        ("    import socket; socket.create_connection(('127.0.0.1', 9))", "closed: a submission works with"),
    ],
)
def test_what_a_method_may_not_do_is_found_and_named(file, body, reason):
    [problem] = ranking.problems(work(file(HEAD + f"def method(taus):\n{body}\n")))
    assert reason in problem


@in_a_child
def test_a_submission_cannot_read_the_files_of_the_suite(file):
    weights = Path(alone.__file__).parents[2] / "suites" / "pocket" / "weights" / "metrics.json"
    [problem] = ranking.problems(work(file(HEAD + f"def method(taus):\n    open({str(weights)!r}).read()\n")))
    assert "the suite's files are closed" in problem


@in_a_child
def test_a_file_that_does_not_run_and_one_that_hangs_are_told_apart(file):
    assert "it runs (ZeroDivisionError" in ranking.problems(work(file(HEAD + MEAN + "1 / 0\n")))[0]
    hanging = file(HEAD + "def method(taus):\n    while True: pass\n")
    assert ranking.problems(work(hanging, seconds=2.0)) == ["stopped: more than 300 seconds, while trying the merge"]


@in_a_child
def test_a_method_gets_what_it_asks_for(file):
    method = "def method(taus, theta_0):\n    return {k: v + theta_0[k] for k, v in taus[0].items()}\n"
    base = example_taus(torch.float32, n=4)[3]
    assert ranking.problems(work(file(HEAD + method), {"theta_0": base})) == []


def test_validation_has_labels_only_if_declared_and_nothing_that_draws():
    suite = pocket_like()
    with_labels, without = alone.validation(suite, True, 4), alone.validation(suite, False, 4)
    assert without.labels == {}
    assert {task: len(y) for task, y in with_labels.labels.items()} == dict.fromkeys(suite.id_tasks, 4)
    assert set(without.images) == set(without.heads) == set(suite.id_tasks)
    tower = without.encode.__self__
    assert (tower.draw("digits", "test", 1), tower.experts, tower.heads, tower._images) == (None, {}, {}, {})
    z = without.encode(suite.theta_0, next(iter(without.images.values())))
    torch.testing.assert_close(z, suite.encode(suite.theta_0, next(iter(without.images.values()))))


def pocket_like():
    from samerge_edu.suites import load_suite

    return load_suite("pocket")


def test_the_data_that_the_third_example_declares_reaches_it_in_a_process_of_its_own():
    found, tau_m = ranking.merge(submission.read(EXAMPLES / "best_students.py"))
    assert ranking.problems(found) == []
    assert found["seconds"] > 0
    assert tau_m.keys() == pocket_like().theta_0.keys()


# ---------------------------------------------------------------------------- the class


def test_an_exam_draws_test_images_of_its_own_and_leaves_validation_alone():
    suite = pocket_like()
    seen, first, again, other = suite, *(ranking.examined(suite, exam) for exam in (7, 7, 8))
    images = [s.images("dials", "test", 3)[0] for s in (seen, first, again, other)]
    assert torch.equal(images[1], images[2])
    assert not any(torch.equal(images[1], images[k]) for k in (0, 3))
    assert torch.equal(seen.images("dials", "val", 3)[0], first.images("dials", "val", 3)[0])
    assert ranking.examined(suite, 0) is suite
    with pytest.raises(ValueError, match="exam: got -1"):
        ranking.examined(suite, -1)
    with pytest.raises(ValueError, match="expected a pocket suite, or exam 0"):
        ranking.examined(TinySuite(), 3)


def row(name, h, author="Ada", **more):
    return {"method": name, "author": author, "needs": "none", "file": f"{name}.py", "h": h} | more


def test_ranks_are_shared_where_images_cannot_tell_landmarks_have_none_and_problems_come_last():
    rows = [row("broken", 0, problem="it hangs"), row("c", 78.0), row("a", 80.0), row("TIES", 79.5, ""), row("b", 79.2)]
    del rows[0]["h"]
    ranked = ranking.ranked(rows)
    got = [(r["method"], r.get("rank")) for r in ranked]
    assert got == [("a", 1), ("TIES", None), ("b", 1), ("c", 3), ("broken", None)]
    h = [r["h"] for r in ranked if r.get("rank")]
    assert [r["rank"] for r in ranked if r.get("rank")] == exercise("13.4").reference(h, ranking.WIDTH)


def test_a_class_is_measured_at_validated_scales_and_a_failure_is_listed(file, monkeypatch):
    suite = TinySuite()
    good = submission.read(file(HEAD + MEAN, "good.py"))
    bad = submission.read(file(HEAD.replace("Mean", "Bad") + MEAN, "bad.py"))
    tau_m = {k: 0.1 * v for k, v in suite.theta_0.items()}
    answers = {"good.py": ({"seconds": 0.5, "checks": {}}, tau_m), "bad.py": ({"stopped": "time"}, None)}
    monkeypatch.setattr(ranking, "merge", lambda submission, suite_name: answers[submission.path.name])
    rows = ranking.class_table(suite, [bad, good], 20, landmarks=("Average",))
    assert {r["method"] for r in rows[:2]} == {"Average", "Mean"}
    assert rows[2]["method"] == "Bad"
    assert rows[2]["problem"].startswith("stopped: more than 300 seconds")
    lines = ranking.text(rows).splitlines()
    assert len(lines) == 4
    assert all(len(line) <= 80 for line in lines[:3])
    assert "Ada" in lines[1] + lines[2]


def test_a_folder_lists_what_is_no_submission_and_leaves_out_private_files(file):
    file(HEAD + MEAN, "good.py")
    file("x = 1", "bad.py")
    file("", "_notes.py")
    good, bad = ranking.folder(file("", "_other.py").parent)
    assert ([s.path.name for s in good], [r["file"] for r in bad]) == (["good.py"], ["bad.py"])
    assert "NAME" in bad[0]["problem"]


# ---------------------------------------------------------------------------- commands


@pytest.fixture
def run(monkeypatch):
    """Call the command line on the tiny suite, with a merge that needs no process."""
    suite = TinySuite()
    update = {k: 0.1 * v for k, v in suite.theta_0.items()}
    monkeypatch.setattr(cli, "loaded_suite", lambda *_: suite)
    found = {"seconds": 0.5, "checks": {"it runs": None}, "holds": {}}
    monkeypatch.setattr(ranking, "merge", lambda *_: (found, update))
    return lambda *words: CliRunner().invoke(cli.app, list(map(str, words)))


def test_submit_looks_at_validation_images_only(run, file, monkeypatch):
    splits = []
    scores = ranking.scores
    monkeypatch.setattr(
        ranking,
        "scores",
        lambda suite, theta, split, *a, **k: splits.append(split) or scores(suite, theta, split, *a, **k),
    )
    result = run("submit", file(HEAD + MEAN), "--images", 20)
    assert result.exit_code == 0, result.output
    assert set(splits) == {"val"}
    assert "Mean, by Ada; needs none, lam = 1" in result.output
    assert "validation, 20 images a task" in result.output


def test_submit_fails_with_the_reason(run, file, monkeypatch):
    monkeypatch.setattr(ranking, "merge", lambda *_: ({"checks": {"it runs": "SyntaxError"}}, None))
    result = run("submit", file(HEAD + MEAN))
    assert (result.exit_code, "NO   it runs (SyntaxError)" in result.output) == (1, True)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["submit"], "got no file, expected my_method.py, or --new FOLDER"),
        (["submit", "none.py"], "no such file: none.py"),
        (["class-leaderboard", "."], "got no file that ends in .py"),
        (["class-leaderboard", ".", "--images", "0"], "n: got 0"),
    ],
)
def test_a_mistake_ends_in_one_line(run, words, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert reason in result.stderr


def test_submit_begins_a_folder(run, tmp_path):
    assert run("submit", "--new", tmp_path / "mine").exit_code == 0
    assert (tmp_path / "mine" / "report.md").is_file()


def test_class_leaderboard_prints_and_writes_the_rows(run, file, tmp_path):
    file(HEAD + MEAN)
    result = run("class-leaderboard", tmp_path, "--images", 20, "--json", tmp_path / "class.json")
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "class.json").read_text(encoding="utf-8"))
    assert [r["rank"] for r in record["rows"] if r["author"]] == [1]
    assert ranking.text(record["rows"]) in result.output


# ---------------------------------------------------------------------------- three examples, graded


def points(text: str) -> list[int]:
    """The last column of a table whose rows begin with a number."""
    return [int(x) for x in re.findall(r"^\| \d .*\| (\d+) \|$", text, flags=re.MULTILINE)]


RUBRIC = points((CAPSTONE / "rubric.md").read_text(encoding="utf-8"))


def test_the_rubric_has_twenty_points_and_the_notebook_and_the_template_the_same():
    assert (sum(RUBRIC), len(RUBRIC)) == (20, 7)
    [source] = (Path(__file__).parents[1] / "notebooks" / "src").glob("13_*.py")
    assert points(source.read_text(encoding="utf-8").replace("# |", "|")) == RUBRIC
    template = (CAPSTONE / "template.md").read_text(encoding="utf-8")
    assert [int(p) for p in re.findall(r"(\d) points?\)", template)] == RUBRIC


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_graded_by_the_rubric(name):
    text = (EXAMPLES / f"{name}_graded.md").read_text(encoding="utf-8")
    given = points(text)
    assert len(given) == len(RUBRIC)
    assert all(0 <= g <= p for g, p in zip(given, RUBRIC, strict=True))
    assert f"**{sum(given)} of 20**" in text


def test_the_examples_are_of_different_quality_and_quality_is_not_accuracy():
    grades = {n: sum(points((EXAMPLES / f"{n}_graded.md").read_text(encoding="utf-8"))) for n in NAMES}
    assert grades["limiter"] >= 18 > 12 >= grades["strongest_half"] > grades["best_students"]


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_of_a_report_are_those_that_were_measured(name):
    """Rows of its table "home and abroad" and the class's record; numbers with a `13.key` behind, and the bands."""
    text = (EXAMPLES / f"{name}.md").read_text(encoding="utf-8")
    recorded = {r["method"]: r for r in json.loads((EXAMPLES / "class.json").read_text(encoding="utf-8"))["rows"]}
    rows = re.findall(
        r"^\| ([A-Z][\w -]+?) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.M
    )
    assert len(rows) >= 2
    for method, *numbers in rows:
        row = recorded[method]
        assert numbers == [
            f"{row[k]:.{d}f}"
            for k, d in zip(("lam", "id_avg", "id_worst", "ood_avg", "h"), (2, 1, 1, 1, 1), strict=True)
        ]
    bands = json.loads((CAPSTONE.parent / "bands.json").read_text(encoding="utf-8"))
    for number, key in re.findall(r"([+-]?\d+\.\d) \(`(13\.[^`]+)`\)", text):
        assert float(number) == pytest.approx(bands[f"pocket/{key}"][0]["value"], abs=0.06), key


def test_the_examples_are_what_the_record_was_made_from():
    rows = json.loads((EXAMPLES / "class.json").read_text(encoding="utf-8"))["rows"]
    heads = {r["file"]: (r["method"], r["author"], r["needs"]) for r in rows if r["author"]}
    good, bad = ranking.folder(EXAMPLES)
    assert bad == []
    assert heads == {s.path.name: (s.name, s.author, s.needs) for s in good}
    assert rows == ranking.ranked(rows)
