"""Methods of one's own on the leaderboard: from a file, and from an installed package."""

import json

import pytest
from tiny_suite import TinySuite
from typer.testing import CliRunner

from samerge_edu import cli, suites
from samerge_edu.own_methods import from_file, from_packages

MINE = """
def mine(taus):
    return {key: sum(tau[key] for tau in taus) / 2 for key in taus[0]}

METHODS = {"mine": mine}
"""


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setattr(suites, "load_suite", lambda name="pocket", **options: TinySuite())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_method.py").write_text(MINE, encoding="utf-8")
    return lambda *words: CliRunner().invoke(cli.app, ["leaderboard", *words])


def test_a_function_and_one_line_are_a_row_of_the_leaderboard(run, tmp_path):
    result = run("--add", "my_method.py", "--only", "mine, Task Arithmetic", "--json", "rows.json")
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))["rows"]
    assert [row["method"] for row in rows] == ["Task Arithmetic"] * 2 + ["mine"] * 2
    assert [row["lam"] for row in rows if row["lam_from"] == "paper"] == [0.3, 1.0]


def test_a_whole_method_may_say_more(tmp_path):
    source = MINE.replace('{"mine": mine}', '{"mine": Method(lambda suite: mine, 0.5, "none", 2026, per_tensor=True)}')
    (tmp_path / "m.py").write_text("from samerge_edu.methods import Method\n" + source, encoding="utf-8")
    assert from_file(tmp_path / "m.py")["mine"].lam == 0.5
    needy = (
        'from samerge_edu.methods import Method\nMETHODS = {"needs": Method(lambda suite: suite.images, 1.0, "", 0)}'
    )
    (tmp_path / "n.py").write_text(needy, encoding="utf-8")
    assert list(from_file(tmp_path / "n.py")) == ["needs"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("x = 1", "got no METHODS, expected a line such as METHODS = {"),
        ("1 / 0", "does not run: ZeroDivisionError"),
        (MINE.replace("taus)", "taus, density)", 1), "'mine' is not ready: It can be called with nothing but a list"),
        (MINE.replace("/ 2", "* float('nan')"), "got NaN or infinity"),
        (MINE.replace('"mine"', '"ties"'), "the name 'ties' is taken"),
        ('METHODS = {"mine": 3}', "'mine': got 3, expected a function taus -> tau_m or a Method"),
    ],
)
def test_a_bad_file_ends_in_one_line_before_any_work(run, tmp_path, source, reason):
    (tmp_path / "bad.py").write_text(source, encoding="utf-8")
    result = run("--add", "bad.py")
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_file_and_a_slip_in_a_name(run):
    assert "no such file or folder: nowhere.py" in run("--add", "nowhere.py").stderr
    assert "method: got 'mien', did you mean mine" in run("--add", "my_method.py", "--only", "mien").stderr
    assert "method: got 'tise', did you mean TIES" in run("--only", "tise").stderr


def test_an_installed_package_brings_its_methods(run, tmp_path, monkeypatch):
    site = tmp_path / "site"
    (site / "their_package-1.0.dist-info").mkdir(parents=True)
    (site / "their_package.py").write_text(MINE, encoding="utf-8")
    about = site / "their_package-1.0.dist-info"
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("[samerge_edu.methods]\ntheirs = their_package:mine\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(site))
    assert list(from_packages()) == ["theirs"]
    result = run("--only", "theirs", "--json", "rows.json")
    assert result.exit_code == 0, result.output
    assert "theirs" in result.stdout
