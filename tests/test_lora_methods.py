"""The leaderboard's rows for LoRA experts, on the tiny suite with adapters."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from tiny_suite import tiny_lora_suite

from samerge_edu.merges.knots import knots
from samerge_edu.merges.ties import ties
from samerge_edu.methods import LORA_METHODS, METHODS
from samerge_edu.params import task_vectors

close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def suite():
    return tiny_lora_suite(scale=0.01, step=0.01)


@pytest.fixture(scope="module")
def taus(suite):
    return task_vectors(suite.theta_0, list(suite.experts.values()))


@pytest.mark.parametrize("name", LORA_METHODS)
def test_every_row_leaves_what_has_no_adapter_and_changes_no_input(suite, taus, name):
    before = [tau["ln_pre.weight"].clone() for tau in taus]
    factors = {task: {k: lora.A.clone() for k, lora in a.items()} for task, a in suite.adapters.items()}
    tau_m = LORA_METHODS[name].recipe(suite)(taus)
    assert tau_m.keys() == suite.theta_0.keys()
    adapted = suite.adapters["ink"]
    for key, value in tau_m.items():
        assert value.shape == suite.theta_0[key].shape
        assert value.isfinite().all()
        assert bool(value.any()) == (key in adapted)
    assert all(torch.equal(tau["ln_pre.weight"], old) for tau, old in zip(taus, before, strict=True))
    assert all(torch.equal(suite.adapters[t][k].A, A) for t, a in factors.items() for k, A in a.items())


def test_knots_ties_trims_the_adapted_layers_only(suite, taus):
    layers = list(suite.adapters["ink"])
    expected = knots([{k: tau[k] for k in layers} for tau in taus], merge=ties)
    for key, value in LORA_METHODS["KnOTS + TIES"].recipe(suite)(taus).items():
        close(value, expected.get(key, torch.zeros_like(value)))


def test_sa_lora_is_a_sum_of_one_rank_for_each_expert(suite, taus):
    """ceil(0.8^10 * 4) = 1 of four ranks, for three experts; with p = 0 it is the plain sum."""
    tau_m = LORA_METHODS["SA-LoRA"].recipe(suite)(taus)
    plain = METHODS["Task Arithmetic"].recipe(suite)(taus)
    everything = LORA_METHODS["SA-LoRA"].recipe(suite, p=0.0)(taus)
    for key in suite.adapters["ink"]:
        assert torch.linalg.matrix_rank(tau_m[key], rtol=1e-4) == 3
        close(everything[key], plain[key])


def test_the_nearest_adapter_and_the_wrong_one(suite, taus):
    """`svd` is nearer to the sum than `linear`, whose cross terms belong to nobody."""
    plain = METHODS["Task Arithmetic"].recipe(suite)(taus)
    svd, linear = (LORA_METHODS[f"LoRA {name}"].recipe(suite)(taus) for name in ("svd", "linear"))
    for key in suite.adapters["ink"]:
        assert torch.linalg.matrix_rank(svd[key], rtol=1e-4) == 4
        assert (svd[key] - plain[key]).norm() < plain[key].norm() < (linear[key] - plain[key]).norm()


@pytest.mark.parametrize("name", LORA_METHODS)
def test_full_experts_are_refused(name):
    with pytest.raises(ValueError, match="suite 'tiny' has no LoRA experts: take pocket-lora"):
        LORA_METHODS[name].recipe(SimpleNamespace(name="tiny", adapters={}, theta_0={}, attention_heads=2))
