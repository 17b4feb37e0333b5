"""Which methods, suites and studies there are, without importing torch: a misspelt name is answered at once.

The tables stay where they belong. Each is a literal dictionary, so its keys can be read from the source.
"""

import ast
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

HERE = Path(__file__).parent


def methods() -> list[str]:
    """Every row that a leaderboard can have; those of LoRA experts, then those that look at data, last."""
    return [key for table in ("METHODS", "LORA_METHODS", "DATA_METHODS") for key in keys("methods.py", table)]


def lora_methods() -> list[str]:
    """The rows that look at the factors of LoRA experts."""
    return keys("methods.py", "LORA_METHODS")


def suites() -> list[str]:
    return keys("suites/load.py", "_loaders") + published()


def published() -> list[str]:
    """The suites whose experts are downloaded."""
    return keys("suites/published/manifest.py", "SUITES")


def studies() -> list[str]:
    return keys("studies/__init__.py", "VARIANTS")


def questions() -> list[str]:
    return keys("studies/__init__.py", "QUESTIONS")


def keys(file: str, table: str) -> list[str]:
    """The keys that are written down in the first dictionary of `table = {...}`, or of the function `table`."""
    for node in ast.parse((HERE / file).read_text(encoding="utf-8")).body:
        targets = [node, *getattr(node, "targets", []), getattr(node, "target", None)]
        if table in [getattr(target, "name", getattr(target, "id", None)) for target in targets]:
            written = next(part for part in ast.walk(node) if isinstance(part, ast.Dict))
            return [str(key.value) for key in written.keys if isinstance(key, ast.Constant)]
    raise LookupError(f"{file} has no table {table}")


def one_of(what: str, got: str, known: Sequence[str]) -> str:
    """The known name that was meant, whatever its case.

    Raises ValueError that proposes what is spelt alike, or else lists them all.

    >>> one_of("method", "tsv-m", ["TIES", "TSV-M"])
    'TSV-M'
    >>> one_of("method", "teis", ["TIES", "TSV-M"])
    Traceback (most recent call last):
    ValueError: method: got 'teis', did you mean TIES?
    """
    spelt = {name.lower(): name for name in known}
    if got.strip().lower() in spelt:
        return spelt[got.strip().lower()]
    alike = [spelt[word] for word in get_close_matches(got.strip().lower(), spelt)]
    raise ValueError(
        f"{what}: got '{got}', did you mean {' or '.join(alike)}?"
        if alike
        else f"{what}: got '{got}', expected one of {', '.join(known)}"
    )
