"""The shapes in the annotations of masks, matrices, transforms and merges are true: checked at every call.

In a process of its own, since the modules are rewritten as they are imported (`checked_shapes`). What is left out gives
wrong input on purpose, which the checker refuses before the function can, or counts how often a tensor is read.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FILES = ["test_shared_properties.py", "test_sa_merging.py", "test_lora_methods.py"]
ON_PURPOSE = "not refus"  # refusals, refuses


def python(*arguments: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    return subprocess.run(
        [sys.executable, *arguments], cwd=TESTS, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )


@pytest.mark.slow
def test_every_method_has_the_shapes_that_it_says():
    done = python(
        "-m", "pytest", "-q", "-x", "-p", "checked_shapes", "-p", "no:cacheprovider", "-k", ON_PURPOSE, *FILES
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


WRONG = """
import checked_shapes, torch
from jaxtyping import TypeCheckError
from samerge_edu.masks import topk_mask
from samerge_edu.matrices import thin_svd
from samerge_edu.merges.consensus import _tall_mask
from samerge_edu.transforms.lwptv import shared_mask

for call in (
    lambda: topk_mask(torch.ones(3), 1, among=torch.ones(4, dtype=torch.bool)),
    lambda: topk_mask(torch.ones(3, dtype=torch.int64), 1),
    lambda: thin_svd(torch.ones(3)),
    lambda: _tall_mask(torch.ones(2, 3), torch.ones(4), 0.5),
    lambda: shared_mask({"w": torch.ones(2, 2)}),
):
    try:
        call()
    except TypeCheckError:
        print("refused")
topk_mask(torch.ones(3), 1, among=torch.ones(3, dtype=torch.bool))
"""


def test_a_wrong_shape_is_refused():
    done = python("-c", WRONG)
    assert (done.stdout.splitlines(), done.stderr) == (["refused"] * 5, "")
