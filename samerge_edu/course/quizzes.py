"""quiz and answer: a question in plain text, and feedback for whichever option was chosen."""

import textwrap

from .bank import quiz as find

WIDTH = 88


def quiz(id: str) -> None:
    """Print a question and its options."""
    try:
        question = find(id)
    except KeyError as e:
        print(f"{id}  ERROR  {e.args[0]}")
        return
    print(_wrapped(f"{id}  {question.question}"))
    for letter, option in question.options.items():
        print(_wrapped(f"  {letter})  {option.text}", indent=6))


def answer(id: str, letter: str) -> None:
    """Print whether the option is right, and why it is or is not. A letter that is no option is TODO."""
    try:
        question = find(id)
    except KeyError as e:
        print(f"{id}  ERROR  {e.args[0]}")
        return
    chosen = question.options.get(str(letter).strip().lower())
    if chosen is None:
        print(f'{id}  TODO  choose one of {", ".join(question.options)} in se.answer("{id}", "...")')
        return
    verdict = f"✓ {id}  RIGHT" if chosen is question.options[question.right] else f"✗ {id}  NOT YET"
    print(_wrapped(f"{verdict}  {chosen.feedback}"))


def _wrapped(text: str, indent: int = 2) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=" " * indent)
