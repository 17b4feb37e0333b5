"""The rows of LwPTV's study are what their names say, and its pictures say what the rows say."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from shared_properties import example_taus
from tiny_suite import TinySuite

from samerge_edu.evaluate import scores
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.methods import METHODS
from samerge_edu.params import add
from samerge_edu.studies import lwptv as study
from samerge_edu.transforms.lwptv import layer_saliency, lwptv, shared_mask


@pytest.fixture(scope="module")
def suite():
    return TinySuite()


@pytest.fixture(scope="module")
def taus(suite):
    """Random in every tensor, biases too, and larger in some than in others."""
    g = torch.Generator().manual_seed(1)
    size = {key: 0.05 + 0.2 * torch.rand((), generator=g) for key in suite.theta_0}
    return [{key: size[key] * torch.randn(v.shape, generator=g) for key, v in suite.theta_0.items()} for _ in range(3)]


@pytest.fixture(scope="module")
def merged(suite, taus):
    return {name: recipe(taus) for name, recipe in study.lwptv_variants(suite, shuffles=2).items()}


def pruned(tau_m):
    return {key for key, value in tau_m.items() if not value.any()}


def test_in_front_of_every_merge_the_pruned_layers_stay_pruned(suite, taus, merged):
    gone = {key for key, M in shared_mask(layer_saliency(taus)).items() if not M.any()}
    assert 0 < len(gone) < len(suite.theta_0)
    names = [name for name in merged if name.startswith("LwPTV + ")]
    merges = {name.removeprefix("LwPTV + ") for name in names} - {"TA"} | {"Task Arithmetic"}
    assert merges == {n for n in METHODS if "LwPTV" not in n} - {
        *("Average", "WUDI", "SA-Merging + DARE", "SA-Merging + WUDI")
    }
    for name in names:
        assert gone <= pruned(merged[name]), name
        assert name.removeprefix("LwPTV + ") in merged
    assert not gone & pruned(merged["TA"])


def test_the_rows_of_the_sweep_and_of_the_parts(taus, merged):
    for name, knobs in {
        "LwPTV + TA": {},
        "eta = 0.1": {"eta": 0.1},
        "eta = 1.0": {"eta": 1.0},
        "eta = 0.95": {"eta": 0.95},
        "mask: AND": {"mask_rule": "and"},
        "mask: own": {"mask_rule": "own"},
        "granularity: block": {"granularity": "block"},
        "granularity: parameter": {"granularity": "parameter"},
        "norm: sum": {"norm": "sum"},
        "shuffled scores 1": {"shuffle": torch.Generator().manual_seed(1)},
    }.items():
        expected = task_arithmetic(lwptv(taus, **knobs))
        assert all(torch.equal(merged[name][key], expected[key]) for key in expected), name
    assert len(pruned(merged["shuffled scores 0"])) == len(pruned(merged["LwPTV + TA"]))
    assert pruned(merged["shuffled scores 0"]) != pruned(merged["shuffled scores 1"])


def test_the_default_is_19_shuffles_so_that_a_share_of_one_in_20_can_be_seen(suite):
    assert sum(name.startswith("shuffled") for name in study.lwptv_variants(suite)) == 19


def test_only_the_patch_embedding_and_all_but_it(taus, merged):
    assert pruned(merged["only the patch embedding given back"]) == {study.PATCHES}
    small = [dict(tau, **{study.PATCHES: 1e-6 * tau[study.PATCHES]}) for tau in taus]  # so that LwPTV prunes it
    gone = pruned(task_arithmetic(lwptv(small)))
    assert study.PATCHES in gone
    assert pruned(task_arithmetic(study.with_patches(small, kept=True))) == gone - {study.PATCHES}
    assert pruned(task_arithmetic(study.with_patches(small, kept=False))) == {study.PATCHES}


def test_masks_by_size():
    taus = example_taus()
    sizes = {key: [tau[key].abs().mean().item() for tau in taus] for key in taus[0]}
    assert {k: v.tolist() for k, v in study.size_of_update(taus).items()} == {
        key: pytest.approx(values) for key, values in sizes.items()
    }
    by_entries = sorted(taus[0], key=lambda key: (-taus[0][key].numel(), key))
    kept = by_entries[: len(by_entries) - round(0.7 * len(by_entries))]
    assert {key for key in taus[0] if study.by_score(taus, study.size_of_layer)[0][key].any()} == set(kept)


def test_the_oracle_gives_back_as_many_layers_as_lwptv_and_those_that_help_most(suite, taus):
    taus = [{key: 5 * value for key, value in tau.items()} for tau in taus]  # so that a layer is noticed
    tau_m = task_arithmetic(taus)
    gain = {}
    for layer in tau_m:
        without = {k: torch.zeros_like(v) if k == layer else v for k, v in tau_m.items()}
        per_task = scores(suite, add(suite.theta_0, without, 0.3), "val", n=20)
        gain[layer] = (per_task["letters"] + per_task["flags"]) / 2
    gone = pruned(task_arithmetic(study.oracle(taus, suite, n=20)))
    assert len(gone) == len(pruned(task_arithmetic(lwptv(taus))))
    assert min(gain[layer] for layer in gone) >= max(gain[layer] for layer in gain if layer not in gone)
    assert len(set(gain.values())) > 2, "the test cannot tell layers apart"


def test_a_knee_and_the_eta_that_it_gives():
    assert study.knee([10.0, 10.0, 9.9, 5.0, 0.0]) == 2
    assert study.knee([0.0, 4.0, 4.5, 5.0]) == 1
    flat, steep = ({f"l{i}": torch.tensor([sign * (i + 10.0 * (i >= 8))]) for i in range(11)} for sign in (1, -1))
    assert pruned(task_arithmetic(study.at_the_knee([flat, {k: v / 2 for k, v in steep.items()}]))) == {
        f"l{i}" for i in range(8)
    }  # S rises from 0 to 5.25, then jumps: the knee is at the eighth of eleven, 0.7 * 11 = 8 go


def test_published_scales():
    assert study.published_lam("LwPTV + TIES") == study.published_lam("TIES") == 1.0
    assert study.published_lam("Iso-C") == 1.3
    assert study.published_lam("TA") == study.published_lam("eta = 0.5") == 0.3


def test_on_pairs_there_is_the_base_itself():
    taus = example_taus(n=2)
    assert list(study.on_pairs()) == ["TA", "LwPTV + TA", "base"]
    assert pruned(study.on_pairs()["base"](taus)) == set(taus[0])


# ---------------------------------------------------------------------------- pictures


def measured(part, lam_from, left_out, cosine=0.0, **accuracy):
    where = {"part": part, "lam_from": lam_from, "left_out": left_out, "cosine": cosine}
    only_here = {"only here": 1.0} if part == "subsets" else {}
    return [
        {"variant": v, "per_task": only_here | {"flags": o}, "id_avg": i, "ood_avg": o, "h": i + o, **where}
        for v, (i, o) in accuracy.items()
    ]


@pytest.fixture
def rows():
    out = []
    for lam_from, gain in (("validation", -1), ("fixed", 2)):
        for left_out, shift in (("", 0), ("a", 4)):
            ids = [70, 70, 70, 69, 69, 69, 68, 0, 50, 45, 40]  # by eta, 0.7 is set below
            sweep = {f"eta = {e}": (ids[round(10 * e)] + shift, 90) for e in study.ETAS if e not in (0, 0.7)}
            sweep |= {"TA": (70 + shift, 80), "LwPTV + TA": (66 + shift, 84 + gain)}
            sweep |= {"TIES": (60 + shift, 80), "LwPTV + TIES": (60 + shift, 79)}
            out += measured("subsets", lam_from, left_out, **sweep)
        for i, gain in enumerate((1, 2, 6, 3)):
            pair = {"TA": (50, 70), "LwPTV + TA": (50, 70 + gain), "base": (40, 90)}
            out += measured("pairs", lam_from, str(i), cosine=i / 10, **pair)
    return pd.DataFrame(out)


def test_gains_are_with_minus_without_in_the_same_subset(rows):
    validation, fixed = (study.gains(rows, "TA", lam_from=scale) for scale in ("validation", "fixed"))
    assert validation.id_avg.to_dict() == fixed.id_avg.to_dict() == {"": -4, "a": -4}
    assert (validation.ood_avg.tolist(), fixed.ood_avg.tolist()) == ([3, 3], [6, 6])
    pairs = study.gains(rows, "TA", "pairs")
    assert pairs.ood_avg.tolist() == [1, 2, 6, 3]
    assert pairs.cosine.tolist() == [0.0, 0.1, 0.2, 0.3]
    assert study.merges_in(rows) == ["TA", "TIES"]


def test_the_share_of_shuffles_counts_lwptv_itself(rows):
    def shuffle(seed, *accuracy):
        return measured("subsets", "validation", "", **{f"shuffled scores {seed}": accuracy})

    real = (68.0, 83.0)  # mean over the two subsets
    shuffles = [*shuffle(0, 68, 82), *shuffle(1, 69, 90), *shuffle(2, 60, 83)]
    shares = study.share_at_least_as_good(pd.concat([rows, pd.DataFrame(shuffles)]), "validation")
    assert rows[(rows.variant == "LwPTV + TA") & (rows.lam_from == "validation") & (rows.part == "subsets")][
        ["id_avg", "ood_avg"]
    ].mean().tolist() == list(real)
    assert shares == {"id_avg": 3 / 4, "ood_avg": 3 / 4, "h": 2 / 4}


def test_the_report_says_what_the_rows_say(rows):
    lines = study.report(rows).splitlines()
    assert "| TA | -4.0 (0.0) | +3.0 (0.0) | -1.0 (0.0) | -4.0 (0.0) | +6.0 (0.0) | +2.0 (0.0) |" in lines
    assert "| TIES | +0.0 (0.0) | -1.0 (0.0) | -1.0 (0.0) | +0.0 (0.0) | -1.0 (0.0) | -1.0 (0.0) |" in lines
    (every,) = (line for line in lines if line.startswith("| all |"))
    assert every.startswith("| all | 0.15 | +0.0 (0.0) | +3.0 (2.2) |")
    (most,) = (line for line in lines if line.startswith("| most similar quarter |"))
    assert most.startswith("| most similar quarter | 0.30 | +0.0 (one) | +3.0 (one) |")
    (least,) = (line for line in lines if line.startswith("| least similar quarter |"))
    assert least.startswith("| least similar quarter | 0.00 | +0.0 (one) | +1.0 (one) |")
    assert "| merge | scale | flags |" in lines
    assert "| LwPTV + TA | fixed | 96 |" in lines  # 86 of the base's 90
    assert "| TA | validation | 89 |" in lines  # 80 of 90


def test_the_sentences_read_the_rows(rows):
    drawn = study.figures(rows)
    sentences = {name: sentence for name, (_, sentence) in drawn.items()}
    plt.close("all")
    assert sentences["lwptv-merges"] == (
        "LwPTV raises H in front of 1 of 2 merges at the published scale, of 0 at the scale chosen on validation."
    )
    assert "knee at eta = 0.7" in sentences["lwptv-eta"]
    assert "Over 4 pairs of experts, at lam = 1, the gain abroad is 3.0 points" in sentences["lwptv-pairs"]
    assert "cosine is 0.80" in sentences["lwptv-pairs"]  # ranks 1 2 3 4 against 1 2 4 3
    assert set(study.figures(rows[rows.part == "subsets"])) == {"lwptv-merges", "lwptv-eta"}
    plt.close("all")
