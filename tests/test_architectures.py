"""The matrix architecture x method in docs/architectures.md is what runs here."""

from pathlib import Path

import pytest
from architectures import as_markdown, verdicts

PAGE = Path(__file__).parent.parent / "docs" / "architectures.md"


@pytest.mark.slow
def test_the_page_says_what_happens():
    assert as_markdown(verdicts()) == PAGE.read_text(encoding="utf-8"), "python tests/architectures.py writes it anew"
