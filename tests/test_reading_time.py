"""The minutes at a lesson's top are counted."""

from data_scripts import build_notebooks
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
    cells = ["# # 01 Demo\n#\n# **Minutes** {reading} to read.", "# " + "word " * 3 * WORDS_A_MINUTE]
    lesson.write_text("\n\n".join(f"# %% [markdown]\n{cell}" for cell in cells) + "\n\n# %%\n# EXERCISE 01.1\n")
    assert "**Minutes** 3 to read." in build_notebooks.assemble(lesson).cells[0].source
