"""The ablations: every variant runs, differences are taken within a subset, the scale never sees the test split."""

import json
import math

import pandas as pd
import pytest
from tiny_suite import TinySuite

from samerge_edu import ablate
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.suites import load_suite


@pytest.fixture(scope="module")
def suite():
    return TinySuite()


@pytest.mark.parametrize("method", ablate.VARIANTS)
def test_every_variant_gives_an_update_with_the_names_of_the_base(suite, method):
    taus = [{k: theta[k] - suite.theta_0[k] for k in suite.theta_0} for theta in suite.experts.values()]
    knobs = {"random_masks": 1} if method == "sa-merging" else {"shuffles": 1}
    for name, recipe in ablate.VARIANTS[method](suite, **knobs).items():
        assert set(recipe(taus)) == set(suite.theta_0), name


def rows(*values: tuple[str, str, float, float]) -> pd.DataFrame:
    return pd.DataFrame(
        [{"variant": v, "left_out": out, "lam": 0.3, "id_avg": i, "ood_avg": o, "h": 0.0} for v, out, i, o in values]
    )


def test_gains_are_differences_within_a_subset():
    measured = rows(("ref", "", 50, 90), ("x", "", 53, 88), ("ref", "a", 70, 80), ("x", "a", 71, 82))
    gains = ablate.table(measured, "ref").set_index("variant")
    assert gains.id_gain["x"] == pytest.approx(2.0)  # (3 + 1) / 2
    assert gains.id_spread["x"] == pytest.approx(math.sqrt(2))  # of 3 and 1
    assert gains.ood_gain["x"] == pytest.approx(0.0)
    assert gains.id_gain["ref"] == 0


def test_run_scores_a_subset_on_its_own_tasks():
    suite = load_suite("pocket")
    tasks = suite.id_tasks[:-1]
    measured = ablate.run(suite, {"TA": task_arithmetic}, which=[suite.id_tasks, tasks], n=4)
    assert measured.left_out.tolist() == ["", suite.id_tasks[-1]]
    assert measured.tasks.tolist() == [len(tasks) + 1, len(tasks)]


def test_files_are_written(tmp_path):
    measured = rows(("ref", "", 50, 90), ("x", "", 53, 88), ("ref", "a", 70, 80), ("x", "a", 71, 82))
    gains = ablate.table(measured, "ref")
    ablate.write(measured, gains, "ref", tmp_path / "new", "study")
    assert len(json.loads((tmp_path / "new" / "study.json").read_text(encoding="utf-8"))) == 4
    assert {f.suffix for f in (tmp_path / "new").iterdir()} == {".json", ".csv", ".png"}
