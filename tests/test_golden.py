"""Against public packages: the numbers that golden/compute.py had them compute, to 1e-6 of the largest entry.

Where they do something else on purpose, the test says what, and shows that nothing but that is different.
"""

import re
from functools import partial
from pathlib import Path
from runpy import run_path

import pytest
import torch
from safetensors import safe_open

from samerge_edu.files import load_params
from samerge_edu.lora import LoRA, dense
from samerge_edu.merges import peft_lora
from samerge_edu.merges.consensus import tall_masks
from samerge_edu.merges.emr import emr, emr_masks
from samerge_edu.merges.iso import iso_c, iso_cts
from samerge_edu.merges.magmax import magmax
from samerge_edu.merges.svc import svc
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.merges.ties import ties
from samerge_edu.merges.tsv_m import tsv_m
from samerge_edu.merges.wudi import wudi
from samerge_edu.params import add, pipe, task_vectors
from samerge_edu.transforms.breadcrumbs import breadcrumbs
from samerge_edu.transforms.dare import dare
from samerge_edu.transforms.della import della
from samerge_edu.transforms.trim import trim

GOLDEN = Path(__file__).parent / "golden"


def golden(package, call):
    tensors = load_params(GOLDEN / f"{package}.safetensors")
    found = {key.split("|")[1]: tensor for key, tensor in tensors.items() if key.split("|")[0] == call}
    assert found, f"no such call in {package}: {call}"
    return found


THETA_0, *THETAS = (golden("models", f"theta_{n}") for n in range(4))
TAUS = task_vectors(THETA_0, THETAS)
EXACT = [{key: value.double() for key, value in tau.items()} for tau in TAUS]


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for key in expected:
        difference = (got[key] - expected[key]).abs().max()
        assert difference <= 1e-6 * expected[key].abs().max(), f"{key}: {difference}"


@pytest.mark.parametrize("package", ["fusion-bench", "mergekit", "peft"])
def test_each_file_says_which_versions_made_it(package):
    with safe_open(GOLDEN / f"{package.replace('-', '_')}.safetensors", framework="pt") as f:
        assert re.fullmatch(rf"{package}==\d[\d.]+ torch==\d\S+", f.metadata()["made_by"])


def test_the_models_are_those_that_compute_makes():
    theta_0, thetas = run_path(str(GOLDEN / "compute.py"))["seeded_models"]()
    for made, shipped in zip([theta_0, *thetas], [THETA_0, *THETAS], strict=True):
        torch.testing.assert_close(made, shipped)


# ---------------------------------------------------------------------------- fusion-bench


def test_task_arithmetic_is_fusion_benchs_and_mergekits():
    theta = add(THETA_0, task_arithmetic(TAUS), lam=0.3)
    assert_same(theta, golden("fusion_bench", "state_dict_add(theta_0, state_dict_mul(sum, 0.3))"))
    assert_same(theta, golden("mergekit", "task_arithmetic(weight=0.3)"))
    assert_same(task_arithmetic(TAUS), golden("peft", "task_arithmetic"))


@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_ties_is_fusion_benchs_once_we_keep_its_one_entry_more(reduce):
    d = sum(tau.numel() for tau in TAUS[0].values())
    expected = golden("fusion_bench", f"ties_merging(20, {reduce})")
    assert_same(ties(TAUS, density=(int(0.2 * d) + 1) / d, reduce=reduce), expected)
    with pytest.raises(AssertionError):
        assert_same(ties(TAUS, density=0.2, reduce=reduce), expected)


def test_tsv_m_is_fusion_benchs():
    assert_same(tsv_m(EXACT), golden("fusion_bench", "compute_and_sum_svd_mem_reduction"))


def test_iso_c_is_fusion_benchs():
    assert_same(iso_c(EXACT), golden("fusion_bench", "iso_c"))


@pytest.mark.parametrize("fraction", [0.8, 0.5])
def test_iso_cts_is_fusion_benchs(fraction):
    assert_same(iso_cts(EXACT, common_fraction=fraction), golden("fusion_bench", f"iso_cts({fraction})"))


@pytest.mark.parametrize("steps", [10, 300])
def test_wudi_is_fusion_benchs(steps):
    assert_same(wudi(EXACT, steps=steps, scope="matrices"), golden("fusion_bench", f"wudi_merging(iter_num={steps})"))


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_svc_is_fusion_benchs(alpha):
    expected = golden("fusion_bench", f"svc({alpha}) of 0.3 * sum")
    got = svc(EXACT, merge=task_arithmetic, lam=0.3, floor=alpha)
    assert_same({key: got[key] for key in expected}, expected)


def test_magmax_is_fusion_benchs():
    assert_same(magmax(TAUS), golden("fusion_bench", "_magmax_select"))


def test_emr_is_fusion_benchs():
    assert_same(emr(TAUS), golden("fusion_bench", "emr_merge: vector"))
    for n, (m, lam) in enumerate(emr_masks(TAUS)):
        expected = golden("fusion_bench", f"emr_merge: expert {n}")
        assert lam == pytest.approx(expected.pop("factor").item())
        assert all(m[key].float().equal(expected[key]) for key in expected)
        assert m.keys() == expected.keys()


def test_tall_masks_are_fusion_benchs():
    for n, mask in enumerate(tall_masks(TAUS, mask_lam=0.6)):
        expected = golden("fusion_bench", f"generate_task_masks(tall_mask_lambda=0.6)[{n}]")
        assert {key: m.float() for key, m in mask.items()}.keys() == expected.keys()
        assert all(mask[key].float().equal(expected[key]) for key in expected)


def test_dare_scales_what_it_keeps_like_fusion_bench():
    theirs = golden("fusion_bench", "module_random_drop_(0.5, rescale=True)[0]")
    (ours,) = dare(TAUS[:1], generator=torch.Generator().manual_seed(0), density=0.5)
    kept_by_both = 0
    for key in theirs:
        both = (theirs[key] != 0) & (ours[key] != 0)
        torch.testing.assert_close(ours[key][both], theirs[key][both])
        kept_by_both += both.sum().item()
    d = sum(tau.numel() for tau in TAUS[0].values())
    assert 0.15 * d < kept_by_both < 0.35 * d  # independent halves


# ---------------------------------------------------------------------------- mergekit


def test_ties_per_tensor_is_mergekits():
    theta = add(THETA_0, ties(TAUS, density=0.5, scope="tensor"))
    assert_same(theta, golden("mergekit", "ties(density=0.5)"))


def test_mergekits_weights_act_before_the_election_like_scaled_experts():
    scaled = [{key: n * value for key, value in tau.items()} for n, tau in enumerate(TAUS, start=1)]
    theta = add(THETA_0, ties(scaled, density=0.5, scope="tensor", reduce="sum"))
    assert_same(theta, golden("mergekit", "ties(density=0.5, weight=1 2 3, normalize=False)"))


def test_trim_per_tensor_is_mergekits_magnitude():
    assert_same(trim(TAUS[:1], density=0.5, scope="tensor")[0], golden("mergekit", "magnitude(0.5)"))


def test_dare_that_keeps_everything_is_mergekits_task_arithmetic():
    kept = dare(TAUS, generator=torch.Generator().manual_seed(0), density=1.0)
    assert_same(add(THETA_0, task_arithmetic(kept)), golden("mergekit", "dare_linear(density=1)"))


def test_breadcrumbs_is_mergekits_if_each_tensor_is_one_row():
    rows = [{key: value.reshape(1, -1) for key, value in tau.items()} for tau in TAUS]
    tau_m = task_arithmetic(breadcrumbs(rows, density=0.5, outliers=1 / 6))
    theta = add(THETA_0, {key: value.view_as(THETA_0[key]) for key, value in tau_m.items()})
    assert_same(theta, golden("mergekit", "breadcrumbs(density=0.5, gamma=1/6)"))


def test_della_keeps_each_entry_as_often_as_mergekit():
    """An entry that stays is divided by its probability, which therefore can be read off."""
    tau = {"visual.proj": TAUS[0]["visual.proj"]}
    probability = torch.zeros(6, 4)
    for seed in range(200):
        (tau_hat,) = della([tau], generator=torch.Generator().manual_seed(seed), density=0.5, epsilon=0.2)
        kept = tau_hat["visual.proj"] != 0
        probability[kept] = (tau["visual.proj"] / tau_hat["visual.proj"])[kept]
    share = golden("mergekit", "della_magprune(0.5, epsilon=0.2): share of 20000 draws")["visual.proj"]
    torch.testing.assert_close(probability, share, rtol=0, atol=0.015)  # four standard errors


# ---------------------------------------------------------------------------- peft


def test_ties_and_trim_per_tensor_are_pefts():
    assert_same(ties(TAUS, density=0.5, scope="tensor"), golden("peft", "ties(density=0.5)"))
    pruned = pipe(partial(trim, density=0.5, scope="tensor"), task_arithmetic)(TAUS)
    assert_same(pruned, golden("peft", "magnitude_prune(density=0.5)"))


def adapter(call):
    found = golden("peft", call)
    return {k: LoRA(found[f"{k}.A"], found[f"{k}.B"], found[f"{k}.scale"].item()) for k in ("0", "1")}


@pytest.mark.parametrize("kind", ["cat", "svd", "linear"])
def test_lora_merges_are_pefts(kind):
    adapters = [adapter("adapter first"), adapter("adapter second")]
    merged = getattr(peft_lora, kind)(adapters, weights=[0.7, 0.4])
    assert_same(dense(merged), dense(adapter(f"{kind}(0.7, 0.4)")))
    assert merged["0"].A.shape == adapter(f"{kind}(0.7, 0.4)")["0"].A.shape


def test_cat_is_the_weighted_sum_of_the_updates_and_linear_is_not():
    first, second = dense(adapter("adapter first")), dense(adapter("adapter second"))
    total = {key: 0.7 * first[key] + 0.4 * second[key] for key in first}
    assert_same(dense(adapter("cat(0.7, 0.4)")), total)
    error = (dense(adapter("linear(0.7, 0.4)"))["0"] - total["0"]).norm() / total["0"].norm()
    assert error > 0.5
