"""The minutes at a lesson's top are counted."""

from data_scripts import build_notebooks
from samerge_edu.course import bank
from samerge_edu.course.reading_time import SECONDS, WORDS_A_MINUTE, minutes


def test_each_part_takes_its_time():
    words = "word " * WORDS_A_MINUTE
    assert minutes([2 * words], []) == 2
    assert minutes([2 * words + "<details><summary>Hint</summary>" + words + "</details>"], []) == 2  # folded away
    assert minutes([words + "$$x + y$$" * (60 // SECONDS["displayed formula"])], []) == 2
    assert minutes([words + "$x$ " * (60 // SECONDS["formula"])], []) == 2
    assert minutes([words], ["x = 1\n\n" * (60 // SECONDS["line of code"])]) == 2
    assert minutes([], ["# " + 2 * words]) == 2
    assert minutes([30 * words], []) == 30
    assert minutes([31 * words], []) == 30  # nobody reads to the minute
    assert minutes([], []) == 1


def test_the_builder_puts_it_into_the_first_cell(tmp_path):
    lesson = tmp_path / "01_demo.py"
    cells = ["# # 01 Demo\n#\n# **Minutes** {reading} to read, {exercises} to do.", "# " + "word " * 3 * WORDS_A_MINUTE]
    lesson.write_text("\n\n".join(f"# %% [markdown]\n{cell}" for cell in cells) + "\n\n# %%\n# EXERCISE 01.1\n")
    to_do = sum(exercise.minutes for exercise in bank.chapter("01").EXERCISES)
    assert f"**Minutes** 3 to read, {to_do} to do." in build_notebooks.assemble(lesson).cells[0].source


def test_every_lesson_has_its_minutes_counted():
    for source in (build_notebooks.NOTEBOOKS / "src").glob("*.py"):
        first = source.read_text(encoding="utf-8").split("# %%", 2)[1]
        assert "**Minutes** {reading} to read, {exercises} for the" in first.replace("\n# ", " "), source.name
