"""The command line on a tiny suite: what it prints, what it writes, and one clear line for every mistake."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from tiny_suite import TinySuite
from typer.testing import CliRunner

from samerge_edu import cli, doctor, leaderboard, names, studies, suites
from samerge_edu.course import lessons
from samerge_edu.course.classroom import cli as classroom
from samerge_edu.methods import DATA_METHODS, LORA_METHODS, METHODS
from samerge_edu.studies import VARIANTS
from samerge_edu.suites.published.manifest import SUITES

ROOT = Path(__file__).resolve().parents[1]
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
    monkeypatch.setattr("samerge_edu.sweep.cores", lambda: 1)  # another process would load the real one
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


def stopped_at(method):
    """`leaderboard.rows_of`, until somebody presses Ctrl-C at this method."""
    rows_of = leaderboard.rows_of

    def interrupted(suite, name, *rest):
        if name == method:
            raise KeyboardInterrupt
        return rows_of(suite, name, *rest)

    return interrupted


def test_a_leaderboard_that_is_stopped_keeps_what_is_finished(run, tmp_path, monkeypatch):
    monkeypatch.setattr(leaderboard, "rows_of", stopped_at("Task Arithmetic"))
    result = run("leaderboard", "--methods", "task arithmetic,Average", "--csv", "rows.csv")
    assert result.exit_code == 130
    assert result.stdout.splitlines()[-1].startswith("Average ")
    assert result.stderr == "\nstopped; the rows above are finished and in rows.csv\n"
    assert list(pd.read_csv(tmp_path / "rows.csv").method) == ["zero-shot", "experts (one a task)"] + ["Average"] * 2


def test_a_second_leaderboard_computes_nothing_unless_it_is_asked_to(run, tiny):
    outputs, costs = [], []
    for words in ([], [], ["--fresh"]):
        before = tiny.encoded
        outputs.append(run("leaderboard", "--methods", "Average", *words).stdout)
        costs.append(tiny.encoded - before)
    assert outputs[0] == outputs[1]
    assert costs[0] == costs[2] > costs[1] == 0


def test_a_leaderboard_that_was_stopped_goes_on(run, tiny, monkeypatch):
    rows_of = leaderboard.rows_of
    with monkeypatch.context() as patch:
        patch.setattr(leaderboard, "rows_of", stopped_at("TIES"))
        assert run("leaderboard", "--methods", "Average,TIES").exit_code == 130
    asked = []
    monkeypatch.setattr(
        leaderboard, "rows_of", lambda suite, name, *rest: asked.append(name) or rows_of(suite, name, *rest)
    )
    assert run("leaderboard", "--methods", "Average,TIES").exit_code == 0
    assert asked == ["TIES"]


def test_where_nothing_can_be_kept_the_table_is_made_all_the_same(run, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SAMERGE_CACHE", str(tmp_path / "file" / "below"))
    result = run("leaderboard", "--methods", "Average")
    assert result.exit_code == 0
    assert result.stderr.startswith("samerge-edu: results are not kept: ")
    assert "Average" in result.stdout


def test_the_help_says_where_results_are_kept():
    shown = CliRunner().invoke(cli.app, ["leaderboard", "--help"], env={"COLUMNS": "300"}).output
    assert "SAMERGE_CACHE or the user's cache folder, samerge_edu" in " ".join(shown.split())


@pytest.mark.parametrize("watched", [False, True])
def test_a_study_draws_a_bar_for_somebody_who_watches(run, monkeypatch, watched):
    seen = []
    monkeypatch.setattr(studies, "study", lambda suite, method, n, progress, **where: seen.append(progress) or 1 / 0)
    if watched:
        monkeypatch.setattr(cli, "sys", SimpleNamespace(stderr=SimpleNamespace(isatty=lambda: True)))
    run("ablate", "lwptv")
    assert seen == [watched]


def test_an_ablation_runs_where_it_is_told_and_goes_on_with_what_is_kept(run, monkeypatch):
    seen = []
    monkeypatch.setattr(studies, "study", lambda *words, **where: seen.append((words[:3], where)) or 1 / 0)
    run("ablate", "lwptv", "--jobs", "3", "--engine", "dask:local")
    run("ablate", "lwptv", "--suite", "vit-b-32")
    (words, where), (_, other) = seen
    assert words == ("pocket", "lwptv", 60)
    assert (where["n_jobs"], where["engine"], where["journal"].about["sweep"]) == (3, "dask:local", "ablate")
    assert (other["n_jobs"], other["engine"], other["journal"]) == (1, "loky", None), "images that others keep"


def test_an_ablation_that_is_stopped_says_what_is_kept(run, monkeypatch):
    def stopped(*words, **where):
        raise KeyboardInterrupt

    monkeypatch.setattr(studies, "study", stopped)
    for words, kept in (([], "finished merges are kept"), (["--suite", "vit-b-32"], "nothing is kept")):
        result = run("ablate", "lwptv", *words)
        assert result.exit_code == 130
        assert result.stderr.startswith(f"\nstopped; {kept}")


def help_of(command: str) -> str:
    shown = CliRunner().invoke(cli.app, [*command.split(), "--help"], env={"COLUMNS": "300"}).output
    return " ".join(shown.split())


@pytest.mark.parametrize("command", ["leaderboard", "ablate", "study", "class grade"])
def test_long_commands_know_the_same_words_for_many_jobs(run, command):
    """--jobs, --engine, --fresh are declared once: the same help, the same refusals."""
    assert "Jobs at a time, a process each; as many as cores if left out." in help_of(command)
    words = {"ablate": ["lwptv"], "study": ["soup"]}.get(command, ["."] if command == "class grade" else [])
    result = run(*command.split(), *words, "--jobs", "0")
    assert result.exit_code == 2
    assert "Invalid value for '--jobs'" in result.stderr
    if command != "class grade":  # other people's code stays on this machine
        assert "Where the jobs run: loky, here; dask:local; dask:tcp://HOST:PORT; ray:auto" in help_of(command)
        assert "--fresh Compute everything anew." in help_of(command)
        assert "engine: got 'dusk', expected loky, dask:local" in refused(run(command, *words, "--engine", "dusk"))


def test_leaderboard_runs_all_methods_without_being_told(run, monkeypatch):
    seen = []
    monkeypatch.setattr(leaderboard, "run", lambda suite, methods, **knobs: seen.append(methods) or SystemExit)
    run("leaderboard")
    assert list(seen[0]) == list(METHODS)


def test_lora_experts_have_rows_of_their_own(run, monkeypatch, tiny):
    seen = []
    monkeypatch.setattr(leaderboard, "run", lambda suite, methods, **knobs: seen.append(methods) or SystemExit)
    monkeypatch.setattr(tiny, "adapters", {"a": object()})
    run("leaderboard")
    monkeypatch.setattr(suites, "load_suite", lambda name, **options: tiny)
    run("leaderboard", "--suite", "pocket-lora", "--methods", "sa-lora")
    assert list(seen[0]) == [*METHODS, *LORA_METHODS]
    assert list(seen[1]) == ["SA-LoRA"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--images", "0"], "n: got 0, expected a whole number of images, at least 1"),
        (["--images", "-1"], "n: got -1, expected a whole number of images"),
        (["--out", "a-file/ablations"], "cannot write into a-file/ablations: "),
        (["--out", "a-file"], "cannot write into a-file: a-file is no folder"),
        (["--out", "/proc/ablations"], "No such file or directory"),
    ],
)
def test_an_ablation_is_refused_before_it_has_cost_minutes(run, monkeypatch, tmp_path, words, reason):
    monkeypatch.setattr("samerge_edu.studies.study", lambda *_, **__: pytest.fail("computed"))
    (tmp_path / "a-file").touch()
    assert reason in refused(run("ablate", "lwptv", *words))
    assert [path.name for path in tmp_path.iterdir()] == ["a-file"]


def test_a_lora_study_of_other_experts_ends_in_one_line(run, tmp_path):
    assert "LoRA" in refused(run("ablate", "sa-lora"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--suite", "purse"], "got 'purse', expected one of pocket"),
        (["--methods", "Average,Magic"], f"method: got 'Magic', expected one of {ROWS}"),
        (["--methods", "TIES,Iso C"], "method: got 'Iso C', did you mean Iso-C"),
        (["--methods", ","], "--methods: got ',', expected names separated by commas"),
        (["--methods", ""], "--methods: got '', expected names separated by commas"),
        (["--methods", "SA-LoRA"], "'SA-LoRA' needs LoRA experts: take --suite pocket-lora"),
        (["--suite", "pockt"], "suite: got 'pockt', did you mean pocket"),
        (["--device", "abacus"], "device: got 'abacus', expected one of cpu, cuda"),
        (["--engine", "dusk"], "engine: got 'dusk', expected loky, dask:local, dask:tcp://host:port or ray:auto"),
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


@pytest.mark.parametrize("taken", [["00_a.ipynb"], ["00_a.ipynb", "00_a.new.ipynb"]])
def test_nothing_is_written_through_a_link_to_nothing(run, shipped, tmp_path, taken):
    (tmp_path / "mine").mkdir()
    for name in taken:
        (tmp_path / "mine" / name).symlink_to(tmp_path / "treasure")
    result = run("notebooks", "mine")
    assert result.exit_code == 0
    assert not (tmp_path / "treasure").exists()
    assert "00_a.ipynb: yours differs and is kept" in result.stdout
    assert (tmp_path / "mine" / "00_a.new.ipynb").exists() == (len(taken) == 1)
    assert (tmp_path / "mine" / "01_b.ipynb").exists()


def test_the_checkout_has_its_notebooks_beside_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "__file__", str(tmp_path / "samerge_edu" / "course" / "lessons.py"))
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

    class Server:
        def __init__(self, command):
            folders.append(command[-1])

        def wait(self):
            return 3

    monkeypatch.setattr(cli.subprocess, "Popen", Server)
    monkeypatch.setattr(cli, "find_spec", lambda name: object())
    return folders


@pytest.mark.parametrize("in_a_checkout", [True, False])
def test_lab_opens_a_copy(run, shipped, launched, tmp_path, in_a_checkout):
    if in_a_checkout:
        (shipped.parent / "pyproject.toml").touch()
    assert run("lab").exit_code == 3, "JupyterLab's exit code is handed on"
    assert launched == ["samerge-notebooks"]
    assert contents(tmp_path / "samerge-notebooks") == ORIGINALS
    run("lab", "elsewhere")
    assert launched[1] == "elsewhere"
    assert contents(tmp_path / "elsewhere") == ORIGINALS


def test_lab_never_opens_the_originals(run, shipped, launched):
    assert "holds the originals: name another folder" in refused(run("lab", "deep/../shipped"))
    assert launched == []


def test_git_does_not_see_the_copy():
    """`make lab` makes it at the top of the checkout."""
    assert "samerge-notebooks/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_lab_without_jupyterlab_says_how_to_get_it(run, shipped, monkeypatch):
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert "pip install jupyterlab" in refused(run("lab"))


ASKS_BEFORE_IT_STOPS = """
import signal, sys, time
asked = []
def ask(*_):
    print("Shut down this server?" if not asked else "Shutting down.", flush=True)
    if asked:
        sys.exit(7)
    asked.append(True)
signal.signal(signal.SIGINT, ask)
print("running", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends the signal that a terminal's Ctrl-C sends on Unix")
def test_one_ctrl_c_lets_jupyterlab_ask_and_the_second_ends_both(tmp_path):
    """A terminal sends Ctrl-C to the command and to the server that it started: to the whole group."""
    (tmp_path / "jupyterlab.py").write_text(ASKS_BEFORE_IT_STOPS, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-m", "samerge_edu", "lab", str(tmp_path / "mine")]
    lab = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        for line in lab.stdout:
            if line == "running\n":
                break
        os.killpg(lab.pid, signal.SIGINT)
        assert lab.stdout.readline() == "Shut down this server?\n"
        with pytest.raises(subprocess.TimeoutExpired):
            lab.wait(timeout=1)  # the default of `subprocess.run` is to kill the server a quarter of a second later
        os.killpg(lab.pid, signal.SIGINT)
        assert lab.stdout.readline() == "Shutting down.\n"
        assert lab.wait(timeout=10) == 7
    finally:
        if lab.poll() is None:
            os.killpg(lab.pid, signal.SIGKILL)
        lab.wait()
        lab.stdout.close()


# ---------------------------------------------------------------------------- the program itself


def names_of(commands):
    return [command.callback.__name__.replace("_", "-") for command in commands]


COMMANDS = names_of(cli.app.registered_commands)


@pytest.mark.parametrize(
    ("group", "commands"),
    [([], [*COMMANDS, "class"]), (["class"], names_of(classroom.app.registered_commands))],
    ids=["samerge-edu", "class"],
)
def test_help_lists_every_command_and_cuts_no_summary(group, commands):
    shown = CliRunner().invoke(cli.app, [*group, "--help"], env={"COLUMNS": "80"}).output
    assert {"leaderboard", "doctor", "prefetch", "merge", "notebooks", "lab", "course"} <= set(COMMANDS)
    summaries = dict(line.split(maxsplit=1) for line in shown.partition("Commands:\n")[2].strip().splitlines())
    assert list(summaries) == commands
    assert [name for name, summary in summaries.items() if not summary.endswith(".") or summary.endswith("..")] == []


@pytest.mark.parametrize("entry", [["-m", "samerge_edu"], ["-m", "samerge_edu.cli"]], ids=" ".join)
def test_the_program_runs_as_a_module_and_says_its_version(entry):
    done = subprocess.run([sys.executable, *entry, "--version"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == f"samerge-edu {cli.__version__}\n"
    used = subprocess.run([sys.executable, *entry, "--help"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert used.stdout.startswith("Usage: samerge-edu ")


HEAVY = ("torch", "numpy", "pandas", "matplotlib")


def test_the_package_itself_loads_nothing_heavy():
    code = f"import sys, samerge_edu; print([m for m in {HEAVY} if m in sys.modules], dir(samerge_edu)[0])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert out.startswith("[] ")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("--help", "0 Usage"),
        ("leaderboard --help", "0 Usage"),
        ("methods", "0 Average"),
        ("suites", "0 pocket"),
        ("leaderboard --methods teis", "did you mean TIES"),
        ("leaderboard --suite pockt", "did you mean pocket"),
        ("leaderboard --device abacus", "device: got 'abacus'"),
        ("leaderboard --csv no/x.csv", "there is no folder no"),
        ("leaderboard --add no.py", "no such file or folder: no.py"),
        ("leaderboard --methods sa-lora", "'SA-LoRA' needs LoRA experts"),
        ("ablate lwptw", "did you mean lwptv"),
        ("ablate lwptv --images 0", "n: got 0"),
        ("ablate lwptv --out README.md", "README.md is no folder"),
        ("ablate sa-lora", "'sa-lora' needs LoRA experts"),
        ("merge --method teis --out x", "did you mean TIES"),
        ("merge --method ties --suite pockt --out x", "did you mean pocket"),
        ("merge --method ties --out no/x", "there is no folder no"),
        ("merge --method ties --tasks mnist --out x", "the experts of 'pocket' are fixed"),
        ("merge --method ties --suite vit-b-32 --tasks minst --out x", "task: got 'minst'"),
        ("merge --method ties --out no_such_folder --base no --expert no", "no such file or folder: no"),
        ("merge --method ties --out docs --base docs --expert docs", "docs exists already"),
        ("prefetch --suite vit-b-3", "did you mean vit-b-32"),
        ("prefetch --tasks minst", "task: got 'minst'"),
        ("prefetch --ood minst", "task: got 'minst'"),
        ("check --tasks mnist", "the experts of 'pocket' are fixed"),
        ("check --device abacus", "device: got 'abacus'"),
        ("submit no.py", "no such file: no.py"),
        ("submit no.py --images 0", "n: got 0"),
        ("class-leaderboard no", "no such file or folder: no"),
        ("class-leaderboard . --images 0", "n: got 0"),
        ("doctor --suite pockt", "did you mean pocket"),
    ],
)
def test_help_and_a_mistake_that_needs_no_torch_load_nothing_heavy(words, answer):
    code = (
        "import sys; from typer.testing import CliRunner; from samerge_edu.cli import app;"
        f"result = CliRunner().invoke(app, {words.split()}); print(result.exit_code, result.output);"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert out.startswith("0 " if answer.startswith("0 ") else "2 samerge-edu: ")
    assert answer in out
    assert out.strip().endswith("[]")


def test_names_are_those_of_the_tables():
    assert names.methods() == [*METHODS, *LORA_METHODS, *DATA_METHODS]
    assert names.suites() == suites.suite_names()
    assert names.published() == list(SUITES)
    assert names.studies() == list(VARIANTS)
    with pytest.raises(LookupError, match=r"methods.py has no table MODELS"):
        names.keys("methods.py", "MODELS")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("merge --method sa-l", ["sa-loRA"]),
        ("leaderboard --methods TIES,TSV", ["TIES,TSV-M"]),
        ("leaderboard --suite pocket-l", ["pocket-lora", "pocket-lora-4"]),
        ("prefetch --suite vit-l", ["vit-l-14", "vit-l-14-lora"]),
        ("ablate lw", ["lwptv"]),
        ("noteb", ["notebooks"]),
    ],
)
def test_the_shell_completes_names(typed, offered):
    words = f"samerge-edu {typed}"
    asked = {"_SAMERGE_EDU_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "samerge_edu"], capture_output=True, text=True, env=os.environ | asked, cwd=ROOT
    )
    assert done.stdout.splitlines() == offered, done.stderr


def test_course_without_an_option_runs_the_audit(run, monkeypatch):
    monkeypatch.setattr("samerge_edu.course.audit.audit", lambda: print("the table") or True)
    assert run("course").stdout == "the table\n"


@pytest.mark.parametrize("sound", [True, False])
def test_the_attack_decides_the_exit_code_too(run, monkeypatch, sound):
    monkeypatch.setattr("samerge_edu.course.audit.audit", lambda: True)
    monkeypatch.setattr("samerge_edu.course.attack.attack", lambda: print("attacked") or sound)
    result = run("course", "--audit", "--attack")
    assert "attacked" in result.stdout
    assert result.exit_code == (0 if sound else 1)


@pytest.mark.parametrize("sound", [True, False])
def test_the_audit_decides_the_exit_code(run, monkeypatch, sound):
    monkeypatch.setattr("samerge_edu.course.audit.audit", lambda: print("the table") or sound)
    result = run("course", "--audit")
    assert result.stdout == "the table\n"
    assert result.exit_code == (0 if sound else 1)
