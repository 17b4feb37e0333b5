"""The LoRA study: gauges change no expert, every choice keeps as many ranks as it says, experts are recognised."""

import re
from functools import partial

import pytest
import torch
from tiny_suite import tiny_lora_suite

from samerge_edu.lora import dense
from samerge_edu.params import task_vectors
from samerge_edu.studies import VARIANTS
from samerge_edu.studies.sa_lora import at_random, largest, lora_variants, recognised, rotated, singular
from samerge_edu.suites import load_suite

close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def suite():
    return tiny_lora_suite(scale=0.02)


@pytest.fixture(scope="module")
def experts(suite):
    return [suite.adapters[task] for task in suite.id_tasks]


def test_an_expert_is_recognised_by_its_task_vector(suite, experts):
    taus = task_vectors(suite.theta_0, [suite.experts["land"], suite.experts["ink"]])
    assert [a is b for a, b in zip(recognised(suite, taus), [experts[2], experts[0]], strict=True)] == [True, True]


def test_a_subset_of_the_shipped_experts_is_recognised_and_the_command_finds_the_study():
    pocket = load_suite("pocket-lora-4")
    tasks = pocket.id_tasks[5:7]
    found = recognised(pocket, task_vectors(pocket.theta_0, [pocket.experts[t] for t in tasks]))
    assert [a is pocket.adapters[t] for a, t in zip(found, tasks, strict=True)] == [True, True]
    assert "SA, 1 of 4" in VARIANTS["sa-lora"](pocket)


@pytest.mark.parametrize("gauge", [singular, partial(rotated, seed=1)])
def test_a_gauge_changes_the_components_and_not_the_experts(experts, gauge):
    for before, after in zip(experts, gauge(experts), strict=True):
        for key, tau in dense(before).items():
            close(dense(after)[key], tau)
            assert not torch.allclose(before[key].A, after[key].A, atol=0.1)


def test_the_singular_gauge_has_orthogonal_components(experts):
    for key, (A, B, _) in singular(experts)[1].items():
        S = torch.linalg.svdvals(experts[1][key].B @ experts[1][key].A)[:4]
        close(A @ A.T, S.diag(), rtol=1e-3, atol=1e-3)
        close(B.T @ B, S.diag(), rtol=1e-3, atol=1e-3)


def test_the_largest_of_the_singular_components_are_the_best_approximation(experts):
    (pruned, *_) = largest(singular(experts), keep=2)
    for key, tau in dense(pruned).items():
        U, S, Vt = torch.linalg.svd(dense(experts[0])[key], full_matrices=False)
        close(tau, (U[:, :2] * S[:2]) @ Vt[:2], atol=1e-4)


def test_lots_keep_as_many_ranks_in_every_layer_and_others_elsewhere(experts):
    pruned, again, other = at_random(experts, 3, seed=0), at_random(experts, 3, seed=0), at_random(experts, 3, seed=1)
    choices = [tuple(lora.A.any(dim=1).tolist()) for expert in pruned for lora in expert.values()]
    assert {sum(choice) for choice in choices} == {3}
    assert len(set(choices)) > 1
    for key, lora in pruned[0].items():
        assert (lora.A.any(dim=1) == lora.B.any(dim=0)).all()
        assert torch.equal(lora.A, again[0][key].A)
    assert any(not torch.equal(pruned[0][key].A, other[0][key].A) for key in pruned[0])


def test_every_variant_merges_a_subset(suite):
    taus = task_vectors(suite.theta_0, [suite.experts["land"], suite.experts["ink"]])
    variants = lora_variants(suite, draws=1)
    layer = next(iter(suite.adapters["ink"]))
    for name, recipe in variants.items():
        tau_m = recipe(taus)
        assert tau_m.keys() == suite.theta_0.keys(), name
        if ranks := re.search(r"(\d) of 4", name):
            assert torch.linalg.matrix_rank(tau_m[layer], rtol=1e-4) == 2 * int(ranks[1]), name  # of two experts
    assert "SA, 2 of 4" in variants
    assert "random 1 of 4, 0" in variants
