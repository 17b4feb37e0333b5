"""The real digits: what they are, and that no choice and no average can see them."""

import numpy as np
import pytest
import torch

from samerge_edu.evaluate import accuracy, scores
from samerge_edu.suites import load_suite
from samerge_edu.suites.pocket.scanned import INK, real_digits
from samerge_edu.suites.pocket.tasks import TASKS


@pytest.fixture(scope="module")
def suite():
    return load_suite("pocket")


def test_all_of_them_white_on_black_and_in_the_middle():
    images, labels = real_digits()
    assert images.shape == (1797, 3, 32, 32)
    assert images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as scikit-learn's
    border = (32 - INK) // 2
    assert images[:, :, :border].max() == images[:, :, :, -border:].max() == 0
    assert images.max() == 255
    assert (images[:, 0] == images[:, 2]).all()


def test_reported_only(suite):
    assert suite.tasks["real_digits"].kind == "report"
    assert "real_digits" not in {*suite.id_tasks, *suite.ood_tasks, *TASKS}
    assert "real_digits" not in scores(suite, suite.theta_0, n=1)
    for split in ("val", "train"):
        with pytest.raises(ValueError, match=f"split: got '{split}', expected 'test'"):
            suite.images("real_digits", split, 5)
    with pytest.raises(ValueError, match="n: got 1798, expected at most 1797"):
        real_digits(n=1798)


def test_an_expert_of_drawings_reads_handwriting(suite):
    assert torch.equal(suite.heads["real_digits"], suite.heads["digits"])
    expert = dict(suite.experts["digits"])
    base, own = (accuracy(suite, theta, "real_digits", n=200) for theta in (suite.theta_0, expert))
    assert own > base > 30  # chance is 10
