"""The code of two pages runs as it stands: Python blocks in order, command lines as they are typed."""

import re
import shlex
from pathlib import Path

import pytest
from tiny_suite import TinySuite
from typer.testing import CliRunner

from samerge_edu import cli, suites

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT of transformers
@pytest.mark.parametrize("page", ["merge_your_own.md", "your_own_method.md"])
def test_every_block_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(suites, "load_suite", lambda name="pocket", **options: TinySuite())
    if page == "merge_your_own.md":
        pytest.importorskip("peft")
    names: dict = {}
    blocks = re.findall(r"```(python|sh)\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 5
    for language, source in blocks:
        if language == "python":
            exec(compile(source, page, "exec"), names)
            printed = re.findall(r"print\(.*?\)\s+# (.*)", source)
            if printed:
                assert capsys.readouterr().out.strip() == "\n".join(printed)
        else:
            for line in source.strip().splitlines():
                program, *words = shlex.split(line)
                assert program == "samerge-edu"
                result = CliRunner().invoke(cli.app, words)
                assert result.exit_code == 0, f"{line}\n{result.output}"
        capsys.readouterr()


def test_the_pages_name_each_other_only_where_they_are():
    for page in ("merge_your_own.md", "your_own_method.md"):
        for link in re.findall(r"\]\(([^)]+)\)", (DOCS / page).read_text(encoding="utf-8")):
            assert (DOCS / link).is_file(), link
