"""The cells that a lesson's lines become: exercises, quizzes and open tasks from the bank, text and code. Run by
build_notebooks.py; by itself it does nothing.
"""

import re

import nbformat

from samerge_edu.course import bank, reading_time


def reading_minutes(lesson: list[nbformat.NotebookNode]) -> int:
    """What `{reading}` in the first cell becomes: minutes for the lesson's own text, code and figures."""
    own = [cell for cell in lesson if not re.match(r"# (EXERCISE|QUIZ|OPEN) ", cell.source)]
    texts, codes = ([c.source for c in own if c.cell_type == kind] for kind in ("markdown", "code"))
    return reading_time.minutes(texts, codes)


def slide(cell: nbformat.NotebookNode) -> str:
    """What `jupyter nbconvert --to slides` makes of a cell: a section begins a slide, an exercise one below it.

    Code follows its text with the next key, output and all; the machinery (setup, settle) is not shown.
    """
    if {"setup", "settle"} & set(cell.metadata.get("tags", [])):
        return "skip"
    if cell.cell_type == "code":
        return "fragment"
    if cell.source.startswith(("# ", "## ")):
        return "slide"
    return "subslide" if cell.source.startswith("### ") else "-"


def expand(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """`# EXERCISE 01.2`, `# QUIZ 01.q1` and `# OPEN 01.open` become their cells; any other cell stays."""
    words = cell.source.split()
    if cell.cell_type == "code" and words[:2] == ["#", "EXERCISE"]:
        return exercise_cells(bank.exercise(words[2]))
    if cell.cell_type == "code" and words[:2] == ["#", "QUIZ"]:
        return quiz_cells(bank.quiz(words[2]))
    if cell.cell_type == "code" and words[:2] == ["#", "OPEN"]:
        return open_cells(bank.open_task(words[2]))
    return [code(cell.source, *cell.metadata.get("tags", []))] if cell.cell_type == "code" else [text(cell.source)]


def exercise_cells(exercise: bank.Exercise) -> list[nbformat.NotebookNode]:
    """Text, stub with its check, hints and solution folded away, settle."""
    id, name = exercise.id, exercise.name
    folded = [fold(f"Hint {n} of {len(exercise.hints)}", h) for n, h in enumerate(exercise.hints, start=1)]
    effort = f"{exercise.minutes} minutes, difficulty {exercise.difficulty} of 5, importance {exercise.importance} of 5"
    folded.append(fold("Solution", f"```python\n{exercise.solution_source}\n```"))
    return [
        text(f"### Exercise {id}: {exercise.title}\n\n{exercise.goal}\n\n*{effort}.*"),
        code(f'{exercise.stub_source}\n\n\nse.check("{id}", {name})', "exercise"),
        text("\n\n".join(folded)),
        code(f'{name} = se.settle("{id}", {name})', "settle"),
    ]


def quiz_cells(quiz: bank.Quiz) -> list[nbformat.NotebookNode]:
    """The question with a place for the letter, and all feedback folded away."""
    *others, last = quiz.options
    letters = f"{', '.join(others)} or {last}"
    feedback = [f"* {letter}) {option.feedback}" for letter, option in quiz.options.items()]
    return [
        code(f'se.quiz("{quiz.id}")\nse.answer("{quiz.id}", "?")  # write {letters} in place of ?', "quiz"),
        text(fold("Answer", "\n".join([f"**{quiz.right}**", "", *feedback]))),
    ]


def open_cells(task: bank.OpenTask) -> list[nbformat.NotebookNode]:
    """The question, a place to write, and what a good answer has, folded away. Nothing is checked."""
    good = "\n".join(f"* {point}" for point in task.good)
    return [
        text(f"## An open task: {task.title}\n\n{task.question}\n\n*Nothing checks this one.*"),
        text("*Double-click here and write your answer.*"),
        text(fold("What a good answer has", good)),
    ]


def fold(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{content}\n\n</details>"


def text(source: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_markdown_cell(source.strip())


def code(source: str, *tags: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(source.strip(), metadata={"tags": list(tags)} if tags else {})
