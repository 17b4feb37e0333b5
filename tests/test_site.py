"""The site and the slides, as far as can be told without building them: `make site` and `make slides` do the rest."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from data_script import script
from packaging.specifiers import SpecifierSet
from test_packaging import CONDA, PROJECT

import samerge_edu
from data_scripts.slide_cells import LINES, deck, summary, text_lines

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


@pytest.fixture(scope="module")
def build_site():
    return script("build_site")


# ---------------------------------------------------------------------------- conf.py


def test_conf_needs_no_sphinx_to_be_read_and_nothing_from_outside():
    conf = runpy.run_path(str(ROOT / "docs" / "conf.py"))
    assert conf["version"] == samerge_edu.__version__
    assert conf["nb_execution_mode"] == "off"
    assert not conf["mathjax_path"].startswith("http")
    options = conf["html_theme_options"]
    assert (options["repository_url"], options["repository_branch"]) == (samerge_edu.REPOSITORY, samerge_edu.BRANCH)
    assert {"colab_url", "binderhub_url"} < set(options["launch_buttons"])
    assert all(Path(folder).is_dir() for folder in conf["html_static_path"])
    asked = {line.partition(">")[0] for line in PROJECT["optional-dependencies"]["site"]}
    assert {"myst-nb", "sphinx-copybutton", "sphinx-book-theme", "sphinx-mathjax-offline"} <= asked
    assert set(conf["extensions"]) == {"myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx_copybutton"}


# ---------------------------------------------------------------------------- the table of contents


def test_every_notebook_and_every_page_is_in_the_table_of_contents_once(build_site):
    listed = [page for pages in build_site.contents(build_site.pages()).values() for page in pages]
    files = [*NOTEBOOKS, *(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    names = {str(file.relative_to(ROOT).with_suffix("")) for file in files} - {"docs/README", "docs/index"}
    assert sorted(listed) == sorted(names)


def test_the_order_is_stated_and_new_pages_find_a_place(build_site):
    table = build_site.contents(
        ["docs/zebra", "notebooks/11_x", "notebooks/02_y", "docs/speed", "docs/results", "api/core"]
    )
    assert table["The course"] == ["notebooks/02_y", "notebooks/11_x"]
    assert table["Results"] == ["docs/results", "docs/speed"]
    assert table["How it is made"] == ["docs/zebra"]
    assert table["Reference"] == ["api/core"]


def test_the_reference_has_every_module_once(build_site):
    found = [name for names in build_site.modules().values() for name in names]
    assert len(found) == len(set(found))
    assert {"samerge_edu.params", "samerge_edu.merges.ties", "samerge_edu.transforms.sa_merging"} <= set(found)
    assert "```{eval-rst}\n.. automodule:: samerge_edu.merges.ties\n" in build_site.reference(
        "merges", ["samerge_edu.merges.ties"]
    )


def test_the_first_page_shows_the_picture_and_its_links_are_seen_from_the_top(build_site):
    page = build_site.first_page({"The course": ["notebooks/00_start_here"]})
    assert page.count("<svg") == 4  # whole, and its three groups
    assert "html[data-theme=dark]" in page
    assert "](notebooks/00_start_here.ipynb)" in page
    assert "](docs/results.md)" in page
    assert len(re.sub(r"(?s)<style>.*</div>", "", page).split()) < 90, "no wall of text"


def test_links_to_sources_lead_to_github_and_links_to_pages_stay(build_site):
    home = f"]({samerge_edu.REPOSITORY}"
    text = "# A\n[a](../samerge_edu/merges) [b](../Makefile) [c](speed.md#x) [d](data.png) [e](https://example.org)"
    shown = build_site.page(text, "docs/a")
    assert f"[a{home}/tree/{samerge_edu.BRANCH}/samerge_edu/merges)" in shown
    assert f"[b{home}/blob/{samerge_edu.BRANCH}/Makefile)" in shown
    assert "[c](speed.md#x) [d](data.png) [e](https://example.org)" in shown
    assert build_site.page("[f](docs/README.md#x)", "CONTRIBUTING").endswith("[f](index.md#x)")
    assert build_site.page("| a |", "docs/ablations/x-tables").startswith("# Tables: x\n\n| a |")


def test_a_lesson_for_reading_has_no_badges_and_a_folded_setup(build_site):
    whole = NOTEBOOKS[1].read_text(encoding="utf-8")
    shown = json.loads(build_site.lesson(whole))
    assert "colab.research" in whole
    assert "colab.research" not in json.dumps(shown)
    setup = [cell for cell in shown["cells"] if "setup" in cell["metadata"].get("tags", [])]
    assert [cell["metadata"]["tags"] for cell in setup] == [["setup", "hide-cell"]] * 2


# ---------------------------------------------------------------------------- docstrings


def test_docstrings_become_restructuredtext():
    sys.path.insert(0, str(ROOT / "docs" / "site"))
    try:
        from docstrings import to_rst, words
    finally:
        sys.path.pop(0)
    assert words("|tau| * `lam` of tau_") == r"\|tau\| \* ``lam`` of tau\_"
    lines = [
        "First.",
        "Returns x.",
        "",
        "    a = b * c",
        "",
        "Args:",
        "    x: one,",
        "        two",
        "",
        ">>> f(1)",
        "2",
    ]
    to_rst(lines)
    assert lines == [
        "First.", "", "Returns x.", "", "::", "", "    a = b * c", "", "Args:", "", "* ``x``: one, two", "",
        ">>> f(1)", "2", "",
    ]  # fmt: skip


# ---------------------------------------------------------------------------- check_site.py


def test_the_checker_of_the_built_pages_bites(tmp_path):
    check = script("check_site")
    (tmp_path / "b.html").write_text('<h1 id="top">B</h1>', encoding="utf-8")
    good = '<a href="b.html#top">b</a><a href="https://example.org">o</a><img src="data:image/png;base64,AA" alt="A">'
    (tmp_path / "a.html").write_text(good, encoding="utf-8")
    assert check.problems(tmp_path) == []
    bad = '<a href="c.html">c</a><a href="b.html#no">n</a><img src="b.html">'
    bad += '<script src="https://example.org/x.js"></script>'
    (tmp_path / "d.html").write_text(bad, encoding="utf-8")
    assert check.problems(tmp_path) == [
        "d.html: a picture without words: b.html",
        "d.html: c.html does not exist",
        "d.html: b.html#no has no such place",
        "d.html: https://example.org/x.js is loaded from another host",
    ]


# ---------------------------------------------------------------------------- slides


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_deck_shows_what_matters_and_fits(path):
    lesson = nbformat.read(path, as_version=4)
    slides = deck(lesson)
    kinds = [cell.metadata.slideshow.slide_type for cell in slides.cells]
    assert kinds[0] == "slide"
    on_screen = [cell for cell, kind in zip(slides.cells, kinds, strict=True) if kind != "notes"]
    text = "\n".join(cell.source for cell in on_screen)
    assert "<summary>" not in text, "hints and solutions stay in the notebook"
    assert "se.settle(" not in text
    for heading in re.findall(r"^##+ .*", "\n".join(c.source for c in lesson.cells if c.cell_type == "markdown"), re.M):
        if heading not in ("## Further reading", "## Claims"):
            assert heading in text
    formulas = [
        f for c in lesson.cells if c.cell_type == "markdown" for f in re.findall(r"(?s)^\$\$.*?\$\$", c.source, re.M)
    ]
    assert all(formula in text for formula in formulas)
    assert max(text_lines(cell.source) for cell in on_screen if cell.cell_type == "markdown") <= 1.5 * LINES


def test_a_summary_is_headings_formulas_lists_and_first_sentences():
    words = " ".join(["Word"] * 44)
    text = f"## A\n\nOne. {words}. Not this.\n\n$$x$$\n\nNor this.\n\n* a\n* b\n\n## Further reading\n\n* c"
    assert summary(text) == f"## A\n\nOne.\n\n{words}.\n\n$$x$$\n\n* a\n* b"


# ---------------------------------------------------------------------------- Makefile, hosting, containers


@pytest.mark.parametrize("target", ["site", "slides"])
def test_what_the_site_needs_is_installed_once(tmp_path, target):
    for name in ("Makefile", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())

    def plan():
        return subprocess.run(["make", "-n", target], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert "-e '.[site]'" in plan()
    (tmp_path / ".venv").mkdir()
    for stamp, seconds in ((".installed", 1), (".site", 2)):
        (tmp_path / ".venv" / stamp).touch()
        os.utime(tmp_path / ".venv" / stamp, times=(2e9 + seconds, 2e9 + seconds))
    assert "pip install" not in plan()


def test_pages_binder_and_the_container_name_the_same_versions():
    binder = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text(encoding="utf-8"))
    *packages, pip = binder["dependencies"]
    assert pip == {"pip": ["-e .."]}, "pip starts in binder/"
    assert binder | {"dependencies": [*packages, {"pip": ["-e ."]}]} == CONDA
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert container["postCreateCommand"].endswith("--file environment.yml")
    pages = yaml.safe_load((ROOT / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8"))
    steps = pages["jobs"]["pages"]["steps"]
    (python,) = (step["with"]["python-version"] for step in steps if "setup-python" in step.get("uses", ""))
    assert python in SpecifierSet(PROJECT["requires-python"])
    assert "make site slides" in [step.get("run") for step in steps]
