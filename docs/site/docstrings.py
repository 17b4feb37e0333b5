"""Our docstrings are written to be read in a terminal. This makes reStructuredText of them, for the site.

Indented blocks are formulas and stay as they are; so do lines that are set in columns. `name` is code, everything else
is words, in which no character has a meaning of its own.
"""

import re

COLUMNS = re.compile(r"\S {2,}\S")
SECTIONS = ("Args:", "Arguments:", "Raises:", "Returns:", "Attributes:", "Yields:")
BEGINS = re.compile(r"(Returns|Raises|Differs from|Limits:|Ties:|Note:|Yields)\b")  # a sentence with a line of its own


def to_rst(lines: list[str]) -> None:
    """Rewrite the lines of one docstring in place.

    >>> lines = ["Add `lam` * tau.", "", "    theta = theta_0 + lam * tau", "", "Args:", "    lam: 0,", "        or 1"]
    >>> to_rst(lines)
    >>> print("\\n".join(lines))
    Add ``lam`` \\* tau.
    <BLANKLINE>
    ::
    <BLANKLINE>
        theta = theta_0 + lam * tau
    <BLANKLINE>
    Args:
    <BLANKLINE>
    * ``lam``: 0, or 1
    <BLANKLINE>
    """
    found: list[str] = []
    section = False
    for block in _blocks(lines):
        indented = block[0].startswith(" ")
        if block[0].lstrip().startswith(">>>"):
            found += [*(line.strip() if not indented else line for line in block), ""]
        elif indented and section:
            found += _items(block)
        elif indented or any(COLUMNS.search(line.strip()) for line in block):
            found += ["::", "", *(line if indented else f"    {line}" for line in block), ""]
        else:
            found += [*(words(line) for line in block), ""]
        section = block[0].strip() in SECTIONS
    lines[:] = found


def words(text: str) -> str:
    """`x` becomes code; whatever else reStructuredText would read as markup is escaped."""
    parts = re.split(r"(`+[^`]+`+)", text)
    return "".join(
        f"``{part.strip('`')}``" if part.startswith("`") else re.sub(r"([\\*|`]|_(?=\W|$))", r"\\\1", part)
        for part in parts
    )


def _blocks(lines: list[str]) -> list[list[str]]:
    """Runs of lines that belong together: to a blank line, another indentation, or a sentence that begins anew."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        last = blocks[-1]
        if not line.strip():
            blocks.append([])
            continue
        doctest = bool(last) and last[0].lstrip().startswith(">>>")
        deeper = bool(last) and line.startswith(" ") != last[0].startswith(" ")
        if last and not doctest and (deeper or last[0] in SECTIONS or (line[0] != " " and BEGINS.match(line))):
            blocks.append([])
        blocks[-1].append(line)
    return [block for block in blocks if block]


def _items(block: list[str]) -> list[str]:
    """`name: text` with continuation lines, as a list."""
    first = len(block[0]) - len(block[0].lstrip())
    items: list[str] = []
    for line in block:
        if len(line) - len(line.lstrip()) > first and items:
            items[-1] += " " + line.strip()
        else:
            items.append(line.strip())
    named = [re.match(r"(\*{0,2}[\w, `*]+?): (.*)", item) for item in items]
    return [
        *(
            f"* ``{match[1].strip('`')}``: {words(match[2])}" if match else f"* {words(item)}"
            for item, match in zip(items, named, strict=True)
        ),
        "",
    ]
