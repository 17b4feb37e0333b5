"""Sentences about outcomes: each row "measured here" has its claim, each claim its recorded margin, and all hold."""

import ast
import json
import math
import re
from pathlib import Path

import pytest

from samerge_edu.course import bands
from samerge_edu.course.claims import claim

SOURCES = sorted((Path(__file__).parent.parent / "notebooks" / "src").glob("[0-9]*.py"))
CLAIM = re.compile(r"`(\d\d\w?\.\w+)`")


def calls(source: str) -> dict[str, float]:
    """name -> at_least of every se.claim in a notebook's source."""
    code = "\n".join(line for line in source.splitlines() if not re.match(r"\s*[%!]", line))
    found = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "claim":
            knobs = {k.arg: k.value for k in node.keywords}
            assert isinstance(node.args[0], ast.Constant), "a claim's name is written out, so that it can be found"
            found[node.args[0].value] = float(ast.literal_eval(knobs["at_least"])) if "at_least" in knobs else 0.0
    return found


def measured_rows(source: str) -> list[str]:
    """The rows of the claims table that speak of what was measured in this notebook."""
    return [line for line in source.splitlines() if line.startswith("# |") and "measured here" in line]


def complaints(source: str, recorded: dict) -> list[str]:
    """What is wrong with a notebook's claims."""
    claims, found = calls(source), []
    for row in measured_rows(source):
        named = CLAIM.findall(row.rsplit("measured here", 1)[1])
        if not named:
            found.append(f"no claim behind: {row}")
        found += [f"no se.claim({name!r}) for: {row}" for name in named if name not in claims]
    for name, at_least in claims.items():
        keys = [key for key in recorded if key.partition("/")[2] == f"claim {name}"]  # 12 is not of the pocket suite
        values = [entry["value"] for key in keys for entry in recorded[key]]
        if not values:
            found.append(f"{name}: nothing recorded; build_notebooks.py --record")
        found += [f"{name}: recorded {v}, asked for {at_least}" for v in values if not v >= at_least]
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_sentence_in_a_claims_table_holds_by_its_recorded_number(source):
    recorded = json.loads(bands.FILE.read_text(encoding="utf-8"))
    assert complaints(source.read_text(encoding="utf-8"), recorded) == []


GOOD = """
# %%
se.claim("06.chance", by=random - literal, at_least=-1.0)

# %% [markdown]
# | claim | status |
# |---|---|
# | Chance does as well | measured here: `06.chance` |
# | It is so for ViT-B/32 | open |
"""


def recorded(*values):
    return {"pocket/claim 06.chance": [{"value": v} for v in values]}


def test_a_false_sentence_is_caught():
    assert complaints(GOOD, recorded(0.3, -0.9)) == []
    assert complaints(GOOD, recorded(0.3, -1.4)) == ["06.chance: recorded -1.4, asked for -1.0"]
    assert complaints(GOOD, recorded(math.nan)) == ["06.chance: recorded nan, asked for -1.0"]
    assert complaints(GOOD, {}) == ["06.chance: nothing recorded; build_notebooks.py --record"]
    assert "no claim behind" in complaints(GOOD.replace(": `06.chance`", ""), recorded(0.3))[0]
    assert "no se.claim('06.other')" in complaints(GOOD.replace("`06.chance`", "`06.other`"), recorded(0.3))[0]


def test_claim_prints_what_it_finds_and_records_when_asked(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(bands, "FILE", tmp_path / "bands.json")
    monkeypatch.delenv("SAMERGE_SUITE", raising=False)
    monkeypatch.delenv("SAMERGE_RECORD", raising=False)
    claim("06.chance", by=2.94, at_least=1)
    claim("06.chance", by=0.5, at_least=1)
    claim("06.nan", by=math.nan)
    claim("06.equal", by=1.0, at_least=1.0, unit="")
    assert capsys.readouterr().out.splitlines() == [
        "claim 06.chance holds: 2.94 points (asked: 1)",
        "claim 06.chance DOES NOT HOLD: 0.5 points (asked: 1)",
        "claim 06.nan DOES NOT HOLD: nan points (asked: 0)",
        "claim 06.equal holds: 1 (asked: 1)",
    ]
    assert not bands.FILE.exists()
    monkeypatch.setenv("SAMERGE_RECORD", "1")
    claim("06.chance", by=2.94, at_least=1)
    assert [e["value"] for e in json.loads(bands.FILE.read_text())["pocket/claim 06.chance"]] == [2.94]
