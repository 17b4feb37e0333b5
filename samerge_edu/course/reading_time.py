"""How long a lesson takes to read, counted and not guessed: words, formulas, code and figures at a stated pace.

The builder puts it where a lesson's first cell says {reading}. What is folded away, the machinery and the exercises'
stubs are not counted: an exercise states its own minutes.
"""

import re
from collections.abc import Iterable

WORDS_A_MINUTE = 180  # slower than prose: each sentence says something that was not known before
SECONDS = {"displayed formula": 30, "formula": 3, "line of code": 5, "figure": 25}

DISPLAYED, INLINE = re.compile(r"\$\$.+?\$\$", re.DOTALL), re.compile(r"\$[^$\n]+\$")
FOLDED = re.compile(r"<details>.*?</details>", re.DOTALL)


def minutes(texts: Iterable[str], codes: Iterable[str]) -> int:
    """Whole minutes for the Markdown cells and the code cells of a lesson, at least 1; rounded to 5 above 10.

    >>> minutes(["one " * 360 + "$$x$$"], ["x = 1  # a line\\n# a comment counts as words"])
    3
    """
    exact = exact_minutes(texts, codes)
    return max(1, round(exact)) if exact < 10 else 5 * round(exact / 5)


def exact_minutes(texts: Iterable[str], codes: Iterable[str]) -> float:
    """The same, not rounded: for a part of a lesson."""
    words = formulas = 0
    for text in texts:
        text = FOLDED.sub("", text)
        displayed, text = len(DISPLAYED.findall(text)), DISPLAYED.sub("", text)
        inline, text = len(INLINE.findall(text)), INLINE.sub("", text)
        words += len(re.findall(r"\w+", text))
        formulas += displayed * SECONDS["displayed formula"] + inline * SECONDS["formula"]
    lines = [line.strip() for code in codes for line in code.splitlines() if line.strip()]
    comments = [line for line in lines if line.startswith("#")]
    words += sum(len(re.findall(r"\w+", line)) for line in comments)
    figures = sum("se.figure(" in line for line in lines)
    seconds = formulas + figures * SECONDS["figure"] + (len(lines) - len(comments)) * SECONDS["line of code"]
    return words / WORDS_A_MINUTE + seconds / 60
