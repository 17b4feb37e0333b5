"""One name, one meaning: docs/letters.md against the signatures of the rooms that a student reads."""

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

import samerge_edu

PACKAGE = Path(samerge_edu.__path__[0])
PAGE = (PACKAGE.parent / "docs" / "letters.md").read_text(encoding="utf-8")
ROOMS = ["params", "masks", "matrices", "saliency", "lora", "transforms/*", "merges/*"]
ROOMS += ["statistics", "adaptation/*", "alignment/*", "ensembles/*"]  # as soon as something lives in them
FILES = [file for room in ROOMS for file in sorted(PACKAGE.glob(f"{room}.py"))]


class Met(NamedTuple):
    """Where a student meets a name: a parameter of a public function."""

    name: str
    type: str
    module: str
    function: str
    explained: bool  # by the function's docstring, or by the module's or a neighbour's that it refers to


def met(source: str, module: str) -> list[Met]:
    """Every parameter of every public function of a file; *arguments have no name that one could write."""
    tree = ast.parse(source)
    functions = [f for f in tree.body if isinstance(f, ast.FunctionDef) and not f.name.startswith("_")]
    words = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Literal[")
        for target in node.targets
    }  # Metric = Literal["indices", "frequency"] is a str with a name
    docstrings = " ".join(ast.get_docstring(node) or "" for node in [tree, *functions])
    return [
        Met(a.arg, kind(a.annotation, words), module, f.name, bool(re.search(rf"\b{a.arg}\b", docstrings)))
        for f in functions
        for a in [*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs]
    ]


def kind(annotation: ast.expr | None, words: set[str]) -> str:
    """The annotation without what does not matter here: None, the shape of a tensor, which words a str may be."""
    text = ast.unparse(annotation) if annotation else "?"
    text = text.removesuffix(" | None")
    text = re.sub(r"\b(?:Float|Bool|Int|Num|Shaped)\[Tensor, '[^']*'\]", "Tensor", text)
    return "str" if text.startswith("Literal[") or text in words else text


def table(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its two head rows."""
    (text,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, flags=re.DOTALL | re.MULTILINE)
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def types_of(words: list[str], cell: str) -> dict[str, list[str]]:
    """word -> its types: several words share one type or have one each, one word may have several.

    >>> types_of(["taus", "tau"], "Sequence[Params], Params")
    {'taus': ['Sequence[Params]'], 'tau': ['Params']}
    >>> types_of(["S"], "Tensor, Mapping[str, Tensor]")
    {'S': ['Tensor', 'Mapping[str, Tensor]']}
    """
    arguments = ast.parse(f"f({cell})", mode="eval").body.args  # a comma inside brackets separates no types
    types = [ast.unparse(a) for a in arguments]
    if len(words) == 1:
        return {words[0]: types}
    return {word: [t] for word, t in zip(words, types * (len(words) if len(types) == 1 else 1), strict=True)}


WORDS: dict[str, list[str]] = {}
for row in table("Words at the border"):
    WORDS |= types_of(re.findall(r"`(\w+)`", row[0]), row[1])
LETTERS = [letter for row in table("The papers' letters") for letter in re.findall(r"`(\w+)`", row[0])]
MET = [m for file in FILES for m in met(file.read_text(encoding="utf-8"), file.stem)]


def unlisted(found: list[Met], words: dict[str, list[str]]) -> list[str]:
    """Names that are met in two files and stand in no table, or that nothing explains."""
    modules: dict[str, set[str]] = {}
    for m in found:
        modules.setdefault(m.name, set()).add(m.module)
    wrong = [f"{name}: in {', '.join(sorted(m))}, not in the table" for name, m in modules.items() if len(m) > 1]
    wrong = [line for line in wrong if line.partition(":")[0] not in words]
    return wrong + [
        f"{m.module}.{m.function}({m.name}): not explained" for m in found if m.name not in words and not m.explained
    ]


def otherwise(found: list[Met], words: dict[str, list[str]]) -> list[str]:
    """Parameters whose type is another than the table's: the name means something else there."""
    return [
        f"{m.module}.{m.function}({m.name}: {m.type}), the table says {' or '.join(words[m.name])}"
        for m in found
        if m.name in words and not any(m.type == t or m.type.startswith(f"{t}[") for t in words[m.name])
    ]


def test_a_name_is_in_the_table_or_explained_where_it_is():
    """A new name that others have too? Give it a row in docs/letters.md, or take the name that is there."""
    assert unlisted(MET, WORDS) == []


def test_a_name_has_one_type_everywhere():
    assert otherwise(MET, WORDS) == []


def test_every_word_of_the_table_is_met():
    assert sorted(WORDS.keys() - {m.name for m in MET}) == []


@pytest.mark.parametrize("letter", LETTERS)
def test_every_letter_of_the_table_is_written_in_the_code(letter):
    assert any(re.search(rf"\b{letter}\b", file.read_text(encoding="utf-8")) for file in FILES)


def test_a_letter_that_is_a_parameter_is_explained_as_a_word_too():
    assert {letter for letter in LETTERS if letter in {m.name for m in MET}} <= WORDS.keys()


def test_a_second_meaning_is_seen():
    source = "def f(taus: Params, density: float, knob: int = 1):\n    'Keep the density.'\n"
    found = [*met(source, "one"), *met("def g(knob: int | None, *steps: int):\n    'knob'\n", "two")]
    words = {"taus": ["Sequence[Params]"]}
    assert otherwise(found, words) == ["one.f(taus: Params), the table says Sequence[Params]"]
    assert unlisted(found, words) == ["knob: in one, two, not in the table", "one.f(knob): not explained"]
    shaped = met("def f(S: Float[Tensor, '*rows d'], form: Literal['a', 'b'], scope: Scope):\n    ''\n", "one")
    assert [m.type for m in shaped] == ["Tensor", "str", "Scope"]


def test_the_table_of_notebook_00_says_what_the_page_says():
    lesson = (PACKAGE.parent / "notebooks" / "src" / "00_start_here.py").read_text(encoding="utf-8")
    (section,) = re.findall(r"^# ## Letters\n(.*?)^# %%", lesson, flags=re.DOTALL | re.MULTILINE)
    rows = [line.strip("# |").split(" | ") for line in section.splitlines() if line.startswith("# | `")]
    page = {row[0]: row[1] for row in table("The papers' letters")}
    assert len(rows) >= 8
    assert [row for row in rows if page.get(row[0]) != row[1]] == []
    lessons = {path.stem.partition("_")[0] for path in (PACKAGE.parent / "notebooks" / "src").glob("[0-9]*.py")}
    assert {row[2] for row in rows} <= lessons
