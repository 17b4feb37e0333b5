"""What is written down twice must agree: pyproject.toml, environment.yml, the package, the Makefile, .ci/run."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import samerge_edu

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
CONDA_NAMES = {"torch": "pytorch", "open_clip_torch": "open-clip-torch"}  # where conda-forge's name is another


def requirement(line: str) -> tuple[str, str]:
    """("torch", ">=2.6") of "torch>=2.6"."""
    name, bounds = re.fullmatch(r"([\w.-]+)(.*)", line.replace(" ", "")).groups()
    return name, bounds


def test_conda_installs_the_same_packages_with_the_same_bounds():
    *lines, pip = CONDA["dependencies"]
    conda = dict(requirement(line) for line in lines)
    run_time = dict(requirement(line) for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["lab"]])
    expected = {CONDA_NAMES.get(name, name): bounds for name, bounds in run_time.items()}
    assert conda == expected | {"python": PROJECT["requires-python"], "pip": ""}
    assert CONDA["channels"] == ["conda-forge"]
    assert pip == {"pip": ["-e ."]}, "pip adds the package itself and nothing else"


def test_dependencies_are_those_promised():
    assert PROJECT["dependencies"] == [
        "torch>=2.6", "torchvision", "open_clip_torch>=3", "safetensors", "numpy>=2.0", "matplotlib>=3.9",
        "ipywidgets>=7.7", "pandas", "psutil>=5.9", "joblib", "tqdm", "typer", "huggingface_hub>=0.30", "jaxtyping",
    ]  # fmt: skip
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    assert PROJECT["optional-dependencies"]["lab"] == ["jupyterlab"]
    dev = {requirement(line)[0] for line in PROJECT["optional-dependencies"]["dev"]}
    assert {"pytest", "nbval", "hypothesis", "beartype", "ruff", "nbclient"} <= dev


DECLARED = {requirement(line)[0] for line in PROJECT["dependencies"]} - {"open_clip_torch"} | {"open_clip"}
DECLARED |= {requirement(line)[0] for line in PROJECT["optional-dependencies"]["search"]}  # imported when asked for
DECLARED |= {requirement(line)[0] for line in PROJECT["optional-dependencies"]["cluster"]} | {"ray"}  # the same
BROUGHT = {"PIL", "IPython", "regex"}  # by matplotlib, ipywidgets, open_clip


@pytest.mark.parametrize("path", sorted((ROOT / "samerge_edu").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_package_imports_only_what_it_declares(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    allowed = DECLARED | BROUGHT | sys.stdlib_module_names | {"samerge_edu"}
    assert found <= allowed, f"not declared: {found - allowed}"


def test_one_version():
    assert samerge_edu.__version__ == PROJECT["version"]


def test_the_wheel_holds_the_package_and_the_notebooks_but_not_their_sources():
    wheel = pytest.importorskip("hatchling.builders.wheel").WheelBuilder(str(ROOT))
    files = {Path(file.distribution_path).as_posix() for file in wheel.recurse_included_files()}
    notebooks = {f"samerge_edu/notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "samerge_edu").rglob("*.py")}
    assert len(notebooks) > 10
    assert {file for file in files if "notebooks/" in file} == notebooks
    assert package <= files
    assert {file.partition("/")[0] for file in files} == {"samerge_edu"}


def test_the_program_is_the_command_line():
    module, name = PROJECT["scripts"]["samerge-edu"].split(":")
    assert hasattr(__import__(module, fromlist=[name]), name)


def test_licences():
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "CC BY 4.0" in (ROOT / "LICENSE-notebooks").read_text(encoding="utf-8")
    assert PROJECT["license-files"] == ["LICENSE", "LICENSE-notebooks"]


def test_ci_runs_make_test_and_nothing_else():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    commands = [line for line in lines if not line.startswith("#")]
    assert commands == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "make test"]
    assert subprocess.run(["bash", "-n", script], capture_output=True).returncode == 0


@pytest.mark.parametrize("ci", ["", "true"])
def test_only_ci_is_given_a_browser(ci):
    plan = subprocess.run(
        ["make", "-n", "test"], cwd=ROOT, env=os.environ | {"CI": ci}, capture_output=True, text=True, check=True
    ).stdout
    assert ("apt-get install" in plan) == bool(ci)


@pytest.mark.parametrize("target", ["demo", "test", "lab", "suite", "mutate", "bench"])
def test_every_target_installs_first_and_only_once(tmp_path, target):
    """A dry run in a copy of the Makefile: with the stamp there is nothing to install, without it there is."""
    for name in ("Makefile", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())

    def plan():
        return subprocess.run(["make", "-n", target], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert "pip install" in plan()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed").touch()
    assert "pip install" not in plan()


def test_no_interpreter_is_one_clear_line(tmp_path):
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    (tmp_path / "pyproject.toml").touch()
    done = subprocess.run(["make", "lab", "PYTHON="], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13" in done.stdout


def test_links_to_colab_in_the_readme_follow_the_one_address():
    """Either the branch, as in the notebooks, or the tag of this very version."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"colab\.research\.google\.com/github/([^)\s]+)", readme)
    home = f"{samerge_edu.REPOSITORY.removeprefix('https://github.com/')}/blob/"
    homes = tuple(f"{home}{place}/notebooks/" for place in (samerge_edu.BRANCH, samerge_edu.TAG))
    assert links
    assert all(link.startswith(homes) for link in links)
    assert all((ROOT / "notebooks" / link.rpartition("/")[2]).is_file() for link in links)


@pytest.mark.parametrize("name", samerge_edu.__all__)
def test_every_public_name_is_there(name):
    assert getattr(samerge_edu, name) is not None
