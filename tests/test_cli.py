"""The command line on a tiny suite: what it prints, what it writes, and one clear line for every mistake."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from tiny_suite import TinySuite
from typer.testing import CliRunner

from samerge_edu import cli, doctor, leaderboard, suites
from samerge_edu.methods import LORA_METHODS, METHODS

ROWS = ", ".join(METHODS)


@pytest.fixture(scope="module")
def tiny():
    return TinySuite()


@pytest.fixture
def run(tiny, monkeypatch, tmp_path):
    """Call the command line in an empty folder, with the tiny suite in the place of pocket."""
    real = suites.load_suite

    def load_suite(name="pocket", **options):
        return tiny if name == "pocket" else real(name, **options)

    monkeypatch.setattr(suites, "load_suite", load_suite)
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(cli.app, [str(word) for word in words])


def refused(result) -> str:
    """The one line of a refusal."""
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("samerge-edu: ")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


# ---------------------------------------------------------------------------- leaderboard


def test_leaderboard_prints_and_writes(run, tmp_path):
    result = run(
        "leaderboard", "--suite", "pocket", "--methods", "task arithmetic,Average",
        "--csv", "rows.csv", "--json", tmp_path / "all.json", "--png", "figure.png",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.json", "figure.png", "rows.csv"]
    record = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    assert [r["method"] for r in record["rows"]] == ["Average"] * 2 + ["Task Arithmetic"] * 2
    assert record["rows"][2]["lam"] == 0.3
    assert result.stdout.startswith("suite tiny, checkpoint family: random numbers\n")
    assert leaderboard.text(record) in result.stdout
    assert len(pd.read_csv(tmp_path / "rows.csv")) == 6
    assert result.stderr == "", "a bar was drawn where there is no terminal"


def test_a_leaderboard_that_is_stopped_keeps_what_is_finished(run, tmp_path, monkeypatch):
    rows_of = leaderboard.rows_of

    def interrupted(suite, name, *rest):
        if name == "Task Arithmetic":
            raise KeyboardInterrupt
        return rows_of(suite, name, *rest)

    monkeypatch.setattr(leaderboard, "rows_of", interrupted)
    result = run("leaderboard", "--methods", "task arithmetic,Average", "--csv", "rows.csv")
    assert result.exit_code == 130
    assert result.stdout.splitlines()[-1].startswith("Average ")
    assert result.stderr == "\nstopped; the rows above are finished and in rows.csv\n"
    assert list(pd.read_csv(tmp_path / "rows.csv").method) == ["zero-shot", "experts (one a task)"] + ["Average"] * 2


def test_leaderboard_runs_all_methods_without_being_told(run, monkeypatch):
    seen = []
    monkeypatch.setattr(leaderboard, "run", lambda suite, methods, progress, each: seen.append(methods) or SystemExit)
    run("leaderboard")
    assert list(seen[0]) == list(METHODS)


def test_lora_experts_have_rows_of_their_own(run, monkeypatch, tiny):
    seen = []
    monkeypatch.setattr(leaderboard, "run", lambda suite, methods, progress, each: seen.append(methods) or SystemExit)
    monkeypatch.setattr(tiny, "adapters", {"a": object()})
    run("leaderboard")
    run("leaderboard", "--methods", "sa-lora")
    assert list(seen[0]) == [*METHODS, *LORA_METHODS]
    assert list(seen[1]) == ["SA-LoRA"]


def test_a_lora_study_of_other_experts_ends_in_one_line(run, tmp_path):
    assert "LoRA" in refused(run("ablate", "sa-lora"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--suite", "purse"], "got 'purse', expected one of pocket"),
        (["--methods", "Average,Magic"], f"unknown method 'magic'; there are: {ROWS}"),
        (["--device", "abacus"], "unknown device 'abacus'; here there are: cpu"),
        (["--csv", "no/such/rows.csv"], "cannot write no/such/rows.csv: there is no folder no/such"),
        (["--json", "."], "cannot write .: it is a folder"),
        (["--csv", "x", "--png", "x"], "the same file is named twice"),
        (["--json", "/proc/rows.json"], "cannot write /proc/rows.json"),
    ],
)
def test_a_mistake_ends_in_one_line_before_any_work(run, tiny, tmp_path, words, reason):
    if "/proc" in reason and not os.path.isdir("/proc"):
        pytest.skip("no /proc here")
    before = tiny.encoded
    assert reason in refused(run("leaderboard", "--csv", "good.csv", *words))
    assert list(tmp_path.iterdir()) == []
    assert tiny.encoded == before


def test_cuda_without_a_gpu_is_refused(run, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "unknown device 'cuda'; here there are: cpu" in refused(run("leaderboard", "--device", "cuda"))


# ---------------------------------------------------------------------------- doctor


def band(name, low, high, value):
    return {"name": name, "low": low, "high": high, "value": value}


def test_doctor_measures_a_suite_and_judges_each_band(run, monkeypatch, tiny):
    monkeypatch.setattr(doctor, "bands", lambda suite: [band("first", 0, 1, 0.5), band("second", 0, 1, 1.5)])
    monkeypatch.setattr(doctor, "missing", dict)
    result = run("doctor", "--suite", "pocket")
    lines = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line.strip()}
    assert lines["first"] == ["first", "0.00", "..", "1.00", "0.50", "inside"]
    assert lines["second"] == ["second", "0.00", "..", "1.00", "1.50", "OUTSIDE"]
    assert "measured now" in result.stdout
    assert result.exit_code == 1


def test_doctor_without_suite_shows_recorded_bands_and_versions(run, monkeypatch):
    monkeypatch.setattr(doctor, "recorded_bands", lambda: [band("first", 0, 1, 0.5)])
    monkeypatch.setattr(doctor, "missing", dict)
    result = run("doctor")
    assert result.exit_code == 0
    assert "as recorded" in result.stdout
    for word in ("python", "torch", "open_clip_torch", "device", "memory", "inside", "Nothing is missing"):
        assert word in result.stdout


def test_doctor_says_what_is_missing_and_what_mends_it(run, monkeypatch):
    monkeypatch.setattr(doctor, "recorded_bands", lambda: None)
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    result = run("doctor")
    assert result.exit_code == 1
    assert 'pip install "samerge-edu[lab]"' in result.stdout
    assert "make suite" in result.stdout


@pytest.mark.parametrize(("name", "verdict", "code"), [("target: x", "missed", 0), ("base", "OUTSIDE", 1)])
def test_doctor_shows_a_missed_target_but_fails_for_a_missed_band_only(run, monkeypatch, name, verdict, code):
    monkeypatch.setattr(doctor, "recorded_bands", lambda: [band(name, 0, 1, 1.5)])
    monkeypatch.setattr(doctor, "missing", dict)
    result = run("doctor")
    assert result.exit_code == code
    assert verdict in result.output


def test_doctor_on_a_suite_that_does_not_exist(run):
    assert "got 'purse', expected one of" in refused(run("doctor", "--suite", "purse"))


# ---------------------------------------------------------------------------- notebooks


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    folder = tmp_path / "shipped"
    folder.mkdir()
    for name in ("00_a.ipynb", "01_b.ipynb"):
        (folder / name).write_text(f"original {name}", encoding="utf-8")
    (folder / "sanitize.cfg").touch()
    monkeypatch.setattr(cli, "notebook_folder", lambda: folder)
    return folder


def contents(folder):
    return {p.name: p.read_text(encoding="utf-8") for p in sorted(folder.iterdir())}


ORIGINALS = {"00_a.ipynb": "original 00_a.ipynb", "01_b.ipynb": "original 01_b.ipynb"}


def test_notebooks_are_copied_and_a_second_time_left_alone(run, shipped, tmp_path):
    for word in ("copied", "already here"):
        result = run("notebooks", "deep/mine")
        assert result.exit_code == 0
        assert [line.split(": ")[1] for line in result.stdout.splitlines()] == [word, word]
        assert contents(tmp_path / "deep" / "mine") == ORIGINALS


def test_a_changed_notebook_is_never_overwritten(run, shipped, tmp_path):
    mine = tmp_path / "mine"
    run("notebooks", mine)
    (mine / "00_a.ipynb").write_text("my work", encoding="utf-8")
    for _ in range(2):  # the second time the .new file is there already, unchanged
        assert "00_a.ipynb: yours differs and is kept; the original is 00_a.new.ipynb" in run("notebooks", mine).stdout
    assert contents(mine) == ORIGINALS | {"00_a.ipynb": "my work", "00_a.new.ipynb": ORIGINALS["00_a.ipynb"]}
    (mine / "00_a.new.ipynb").write_text("also my work", encoding="utf-8")
    assert "00_a.new.ipynb too; move one away" in run("notebooks", mine).stdout
    assert contents(mine)["00_a.new.ipynb"] == "also my work"


def test_notebooks_into_a_file_is_refused(run, shipped, tmp_path):
    (tmp_path / "file").touch()
    assert "File exists" in refused(run("notebooks", "file"))


def test_the_checkout_has_its_notebooks_beside_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "samerge_edu" / "cli.py"))
    with pytest.raises(ValueError, match="no notebooks"):
        cli.notebook_folder()
    for folder in (tmp_path / "notebooks", tmp_path / "samerge_edu" / "notebooks"):
        folder.mkdir(parents=True)
        (folder / "00.ipynb").touch()
        assert cli.notebook_folder() == folder


# ---------------------------------------------------------------------------- lab


@pytest.fixture
def launched(monkeypatch):
    """The folders that JupyterLab was started on."""
    folders = []

    def start(command):
        folders.append(command[-1])
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(cli.subprocess, "run", start)
    monkeypatch.setattr(cli, "find_spec", lambda name: object())
    return folders


def test_lab_opens_a_checkouts_own_notebooks(run, shipped, launched):
    (shipped.parent / "pyproject.toml").touch()
    result = run("lab")
    assert launched == [str(shipped)]
    assert result.exit_code == 3, "JupyterLab's exit code is handed on"


def test_lab_of_an_installed_package_opens_a_copy(run, shipped, launched, tmp_path):
    run("lab")
    assert launched == ["samerge-notebooks"]
    assert contents(tmp_path / "samerge-notebooks") == ORIGINALS
    run("lab", "elsewhere")
    assert launched[1] == "elsewhere"
    assert contents(tmp_path / "elsewhere") == ORIGINALS


def test_lab_without_jupyterlab_says_how_to_get_it(run, shipped, monkeypatch):
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert 'pip install "samerge-edu[lab]"' in refused(run("lab"))


# ---------------------------------------------------------------------------- the program itself


def test_help_lists_the_commands_and_loads_no_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from samerge_edu.cli import app;"
        "print(CliRunner().invoke(app, ['--help']).output); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for command in ("leaderboard", "doctor", "prefetch", "merge", "notebooks", "lab", "course"):
        assert command in out
    assert out.strip().endswith("False")


def test_course_wants_to_be_told_what_to_do(run):
    result = run("course")
    assert result.exit_code == 2
    assert "--audit" in result.stderr


@pytest.mark.parametrize("sound", [True, False])
def test_the_audit_decides_the_exit_code(run, monkeypatch, sound):
    monkeypatch.setattr("samerge_edu.course.audit.audit", lambda: print("the table") or sound)
    result = run("course", "--audit")
    assert result.stdout == "the table\n"
    assert result.exit_code == (0 if sound else 1)
