"""README and docs/: short enough, no dead link, each number on one page with its command and its date."""

import json
import re
from datetime import date
from pathlib import Path

import pytest
from data_script import SCRIPTS, script
from links import anchors, links, problems
from tiny_suite import TinySuite

import samerge_edu
from samerge_edu.leaderboard import run
from samerge_edu.methods import METHODS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
TOP = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "notebooks" / "src" / "README.md"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [*TOP, *DOCS]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# ---------------------------------------------------------------------------- links


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=name)
def test_every_link_leads_somewhere(page):
    assert problems(page) == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_that_a_page_names_is_there(page):
    """`tests/test_docs.py`, `docs/ablations`: what stands in backticks and begins with a folder of ours."""
    folders = "samerge_edu|notebooks|data_scripts|docs|tests"
    named = re.findall(rf"`((?:{folders})/[\w./-]*)(?:::\w+)?`", read(page))
    assert [path for path in named if "NN" not in path and not (ROOT / path).exists()] == []  # NN: any lesson


def test_a_dead_link_is_seen(tmp_path):
    (tmp_path / "other.md").write_text("# On the *way*: 2 `steps`\n", encoding="utf-8")
    page = tmp_path / "page.md"
    good = "[a](other.md) [b](other.md#on-the-way-2-steps) [c](https://example.org/x#y) [d](#here)\n\n# Here\n"
    page.write_text(good + "`[no](link.md)`\n\n```\n[no](link.md)\n```\n", encoding="utf-8")
    assert links(page) == ["other.md", "other.md#on-the-way-2-steps", "https://example.org/x#y", "#here"]
    assert problems(page) == []
    bad = ["gone.md", "other.md#elsewhere", "#there", "http://example.org", "https://nowhere", "picture.svg"]
    marks = "".join(f"[x]({target})\n" for target in bad[:-1]) + '<img src="picture.svg">'
    page.write_text(f"{marks}\n\n| a |\n|---|\n| ![x](lost.png) |\n", encoding="utf-8")
    assert [re.search(r"'(.*)'", problem)[1] for problem in problems(page)] == [*bad, "lost.png"]


def test_a_dead_link_in_a_notebook_is_seen(tmp_path):
    cells = [
        {"cell_type": "markdown", "source": ["## The Sum, twice\n", "[a](#The-Sum,-twice) [b](#the-sum-twice)"]},
        {"cell_type": "code", "source": ["[c](d.md)"]},
    ]
    (notebook := tmp_path / "00_x.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    assert anchors(notebook) == {"The-Sum,-twice"}
    assert problems(notebook) == ["00_x.ipynb: '#the-sum-twice' has no such heading"]


# ---------------------------------------------------------------------------- the front door


def test_the_readme_fits_on_two_screens():
    assert len(read(README).splitlines()) <= 95
    assert len(README.read_bytes()) < 6000


def test_the_readmes_code_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", read(README), flags=re.DOTALL)
    assert len(code.splitlines()) <= 10
    exec(compile(code, "README.md", "exec"), {})
    base, merged = (float(line.split()[-1]) for line in capsys.readouterr().out.splitlines())
    assert 50 < base < merged < 95


def test_the_readme_lists_every_notebook():
    """A new notebook? Add its row to the README's table."""
    listed = re.findall(r"^\| \[(\w+)\]\(notebooks/\1\.ipynb\) \|", read(README), flags=re.MULTILINE)
    assert listed == [notebook.stem for notebook in NOTEBOOKS]


def test_the_readmes_install_line_and_clone_line_follow_the_one_address_and_tag():
    text = read(README)
    archive = f"{samerge_edu.REPOSITORY}/archive/refs/heads/{samerge_edu.BRANCH}.zip"
    assert f'pip install "samerge-edu[lab] @ {archive}"' in text
    assert f"git clone {samerge_edu.REPOSITORY} && cd samerge_edu\n" in text
    targets = set(re.findall(r"^make (\w+) +#", text, flags=re.MULTILINE))
    assert {"demo", "test", "lab"} <= targets <= set(re.findall(r"^(\w+):", read(ROOT / "Makefile"), re.MULTILINE))


def test_the_picture_is_what_its_script_draws_and_can_be_read():
    module = script("draw_picture")
    picture = read(ROOT / "docs" / "picture.svg")
    without_images = re.compile(r"base64,[^\"]*")  # another zlib packs the same pixels otherwise
    assert without_images.sub("", picture) == without_images.sub("", module.picture())
    for colours in (module.LIGHT, module.DARK):
        for ink in ("ink", "quiet", "accent"):
            for ground in ("panel", "box"):
                assert contrast(colours[ink], colours[ground]) >= 4.5, f"{ink} on {ground}"  # WCAG 2.2, AA
    assert not re.search(r'(?:fill|stroke)="#', picture), "a colour that no theme can change"


def contrast(a: str, b: str) -> float:
    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


# ---------------------------------------------------------------------------- the pages and their numbers


def index() -> dict[str, list[str]]:
    """page, seen from docs/ -> the commands and tests that made its numbers."""
    rows = re.findall(r"^\| \[([^]]+)\]\(\1\) \|.*\| ([^|]*) \|$", read(ROOT / "docs" / "README.md"), re.MULTILINE)
    return {page: re.findall(r"`([^`]+)`", made_by) for page, made_by in rows}


def test_the_index_lists_every_page():
    linked = {(ROOT / "docs" / target).resolve() for target in links(ROOT / "docs" / "README.md")}
    assert set(DOCS) - {ROOT / "docs" / "README.md"} <= linked


@pytest.mark.parametrize("page", index())
def test_a_page_says_which_command_made_its_numbers_and_when(page):
    text = read(ROOT / "docs" / page)
    if made_by := index()[page]:
        assert [command for command in made_by if command not in text] == []
        assert re.search(r"\b20\d\d-\d\d-\d\d\b", text), "when?"
    else:
        assert not re.search(r"\d+\.\d+ (?:s|GB|GiB|%)|\(\d+\.\d\)", text), "a number, but no command in the index"


def test_no_row_of_a_table_stands_on_two_pages():
    pages: dict[str, list[str]] = {}
    for page in PAGES:
        for row in re.findall(r"^\|.*\d\.\d.*\|$", read(page), flags=re.MULTILINE):
            pages.setdefault(row, []).append(name(page))
    assert len(pages) > 100
    assert {row: where for row, where in pages.items() if len(where) > 1} == {}


def test_the_readme_measures_nothing():
    """Results stand in docs/. What is left are versions."""
    prose = re.sub(
        r"```.*?```|\]\([^)]*\)|arXiv:\d+\.\d+|Apache-2\.0|CC BY 4\.0|3\.1\d", "", read(README), flags=re.DOTALL
    )
    assert re.findall(r"\d+\.\d+", prose) == []


def test_the_floor_plan_names_every_room():
    """A new module at the top of the package? Give it its place in docs/architecture.md."""
    (plan,) = re.findall(r"## Rooms\n.*?```\n(.*?)```", read(ROOT / "docs" / "architecture.md"), flags=re.DOTALL)
    package = Path(samerge_edu.__path__[0])
    rooms = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {room for room in rooms - {"__init__"} if not re.search(rf"\b{room}\b", plan)} == set()


# ---------------------------------------------------------------------------- refresh_readme.py


def test_the_pages_hold_what_the_refresher_makes_of_the_shipped_numbers():
    refresh = script("refresh_readme")
    expected = {
        "docs/results.md": refresh.bands_block(),
        "docs/ablations/sa-merging.md": refresh.ablation_block(ROOT / "docs" / "ablations" / "sa-merging.csv"),
    }
    for page, block in expected.items():
        assert f"-->\n{block}<!-- /" in read(ROOT / page)


def test_a_leaderboard_becomes_a_table_with_its_command_and_date():
    methods = {name: METHODS[name] for name in ("Average", "TIES")}
    record = run(TinySuite(), methods)
    block = script("refresh_readme").leaderboard_block(record, date(2026, 11, 24))
    _, _, base, experts, average, ties, _, source = block.splitlines()
    assert (base.split(" | ")[0], experts.split(" | ")[0]) == ("| *zero-shot*", "| *experts, one a task*")
    paper, validated = (row for row in record["rows"] if row["method"] == "TIES")
    assert ties.startswith(f"| TIES | none | {validated['lam']:g} | {validated['id_avg']:.1f} | ")
    assert ties.endswith(f" | {paper['id_avg']:.1f} at 1 |")
    assert average.count("|") == base.count("|") == block.splitlines()[0].count("|")
    assert source.startswith("Made by `make demo` on 2026-11-24: torch 2.")


def test_a_block_is_filled_in_its_page_and_nowhere_else(tmp_path):
    refresh = script("refresh_readme")
    pages = [tmp_path / "a.md", tmp_path / "b.md"]
    for page, block in zip(pages, ("bands", "leaderboard"), strict=True):
        page.write_text(f"before\n<!-- {block} -->\nold\n<!-- /{block} -->\nafter\n", encoding="utf-8")
    refresh.fill("bands", "new \\1\n", pages)
    assert read(pages[0]) == "before\n<!-- bands -->\nnew \\1\n<!-- /bands -->\nafter\n"
    assert "old" in read(pages[1])
    with pytest.raises(ValueError, match=r"<!-- lost --> .*: got none, expected one page"):
        refresh.fill("lost", "", pages)
    pages[1].write_text(read(pages[0]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"got a\.md, b\.md, expected one page"):
        refresh.fill("bands", "", pages)


def test_how_far_a_row_moves_between_machines(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)

    def record(lam, *accuracies):
        row = dict(zip(("id_avg", "id_worst", "ood_avg", "h"), accuracies, strict=True))
        return {"rows": [row | {"method": "m", "lam": lam, "lam_from": "validation"}, {"lam_from": "paper"}]}

    text = script("compare_machines").block(
        {"here": record(1.0, 70, 50, 90, 79), "there": record(0.8, 71.5, 50, 88, 79)}
    )
    assert "| there | 1.50, 1.5 | 0.00, 0.0 | 2.00, 2.0 | 0.00, 0.0 | 25 % at most |" in text
    assert "| m | 70.0, 1.5 | 50.0, 0.0 | 90.0, 2.0 | 79.0, 0.0 | 0.8 to 1 |" in text


# ---------------------------------------------------------------------------- data_scripts/


@pytest.mark.parametrize("file", sorted(SCRIPTS.glob("*.py")), ids=lambda p: p.name)
def test_a_script_is_one_job_of_30_to_150_lines(file):
    """More? What it does beyond its job belongs in the package or in tests/."""
    lines = len(read(file).splitlines())
    assert 30 <= lines <= 150
