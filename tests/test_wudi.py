"""WUDI: Adam against autograd on the paper's objective, the closed form against lstsq, and what separates the two."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from samerge_edu.merges.wudi import wudi, wudi_flow
from samerge_edu.params import lazy_task_vectors

BLOCKS = {
    "visual.transformer.resblocks.0.attn.in_proj_weight": (9, 4),
    "visual.transformer.resblocks.0.mlp.c_proj.weight": (4, 9),
}
REST = {"visual.proj": (5, 4), "visual.class_embedding": (4,), "visual.conv1.weight": (3, 2, 2, 2), "scale": ()}
SHAPES = BLOCKS | REST
EITHER = pytest.mark.parametrize("merge", [wudi, wudi_flow])


def experts(N=3, seed=0, shapes=SHAPES, dtype=torch.float64, size=1.0):
    g = torch.Generator().manual_seed(seed)
    return [{k: size * (n + 1) * torch.randn(s, generator=g, dtype=dtype) for k, s in shapes.items()} for n in range(N)]


def objective(tau_m, matrices):
    """The paper's sum, one expert at a time; also the sum of squares that lstsq minimises."""
    return sum(((tau_m - tau) @ tau.mT).square().sum() / tau.square().sum() for tau in matrices)


def least_squares(matrices):
    """The minimiser by lstsq: tau_m [tau_1^T/|tau_1| ...] = [tau_1 tau_1^T/|tau_1| ...], smallest norm first."""
    A = torch.cat([tau / tau.norm() for tau in matrices])
    target = torch.cat([tau @ tau.mT / tau.norm() for tau in matrices])
    return torch.linalg.lstsq(A, target, driver="gelsd").solution.mT


@pytest.mark.parametrize("key", BLOCKS)
def test_adam_takes_the_steps_that_autograd_would(key):
    taus = experts(size=1e-2)
    tau_m = sum(tau[key] for tau in taus).requires_grad_()
    adam = torch.optim.Adam([tau_m], lr=3e-4)
    for _ in range(40):
        adam.zero_grad()
        objective(tau_m, [tau[key] for tau in taus]).backward()
        adam.step()
    torch.testing.assert_close(wudi(taus, steps=40, lr=3e-4)[key], tau_m.detach(), rtol=1e-6, atol=1e-9)


def test_the_papers_steps_and_learning_rate_are_the_default():
    taus = experts(2, size=1e-3)
    torch.testing.assert_close(wudi(taus), wudi(taus, steps=300, lr=1e-5))
    for key in BLOCKS:
        moved = (wudi(taus)[key] - taus[0][key] - taus[1][key]).abs().max()
        assert 5e-5 < moved < 3.1e-3  # no further than 300 steps of about 1e-5


@pytest.mark.parametrize(("N", "shape"), [(3, (9, 4)), (3, (4, 9)), (2, (3, 9)), (4, (5, 5))])
def test_the_flow_ends_at_the_least_squares_solution(N, shape):
    taus = experts(N, shapes={"mlp.c_fc.weight": shape})
    matrices = [tau["mlp.c_fc.weight"] for tau in taus]
    tau_m = wudi_flow(taus)["mlp.c_fc.weight"]
    torch.testing.assert_close(tau_m, least_squares(matrices), rtol=1e-6, atol=1e-8)
    g = torch.Generator().manual_seed(1)
    for _ in range(20):
        nearby = tau_m + 1e-2 * torch.randn(shape, generator=g, dtype=torch.float64)
        assert objective(tau_m, matrices) <= objective(nearby, matrices)


def test_enough_steps_of_adam_reach_the_same_optimum():
    taus = experts(3, shapes={"mlp.c_fc.weight": (9, 4)})
    reached = wudi(taus, steps=4000, lr=1e-2)["mlp.c_fc.weight"]
    torch.testing.assert_close(reached, wudi_flow(taus)["mlp.c_fc.weight"], rtol=1e-3, atol=1e-3)


def test_300_steps_stop_far_from_the_optimum():
    """Many weak directions, as in trained experts: Adam settles the strong ones and leaves the weak near the sum."""
    g = torch.Generator().manual_seed(0)
    fall = 10.0 ** (-2 * torch.arange(32.0) / 31)
    taus = [{"mlp.c_fc.weight": 1e-3 * torch.randn(48, 32, generator=g) * fall} for _ in range(4)]
    matrices = [tau["mlp.c_fc.weight"] for tau in taus]
    start, adam, optimum = sum(matrices), wudi(taus)["mlp.c_fc.weight"], wudi_flow(taus)["mlp.c_fc.weight"]
    loss = [objective(x.double(), [tau.double() for tau in matrices]).item() for x in (start, adam, optimum)]
    assert loss[0] > 2 * loss[1]
    assert loss[1] >= loss[2]
    assert (adam - optimum).norm() > 0.05 * optimum.norm()


@pytest.mark.parametrize("time", [0.0, 0.3, 2.0, 50.0])
def test_the_flow_solves_its_differential_equation(time):
    """By the matrix exponential of d [X; 1] / dt = [[-C, B], [0, 0]] [X; 1], where X = tau_m^T."""
    taus = experts(3, shapes={"mlp.c_fc.weight": (4, 6)})
    matrices = [tau["mlp.c_fc.weight"].numpy() for tau in taus]
    system = np.zeros((10, 10))
    for tau in matrices:
        C = tau.T @ tau / (tau**2).sum()
        system[:6, :6] -= C
        system[:6, 6:] += C @ tau.T
    reached = scipy.linalg.expm(time * system) @ np.concatenate([sum(matrices).T, np.eye(4)])
    torch.testing.assert_close(wudi_flow(taus, time=time)["mlp.c_fc.weight"], torch.from_numpy(reached[:6].T))


@pytest.mark.parametrize(("c", "factor"), [(1.5e-12, 1), (0.7e-12, 2)])
def test_a_direction_that_is_1e_12_of_the_strongest_in_C_is_absent(c, factor):
    """Two equal experts: each direction goes from their sum to one of them, unless it counts as absent."""
    tau = {"mlp.c_fc.weight": torch.diag(torch.tensor([1.0, c**0.5], dtype=torch.float64))}
    expected = torch.diag(torch.tensor([1.0, factor * c**0.5], dtype=torch.float64))
    torch.testing.assert_close(wudi_flow([tau, tau])["mlp.c_fc.weight"], expected, rtol=1e-3, atol=1e-9)


def test_the_objective_falls_along_the_flow():
    taus = experts(3)
    for key in BLOCKS:
        loss = [objective(wudi_flow(taus, time=t)[key], [tau[key] for tau in taus]) for t in (0, 0.1, 1, 10, math.inf)]
        assert loss == sorted(loss, reverse=True)
        assert loss[0] > loss[1] > loss[2]


def test_at_time_zero_the_flow_is_task_arithmetic():
    taus = experts(3)
    for key in BLOCKS:
        torch.testing.assert_close(wudi_flow(taus, time=0)[key], taus[0][key] + taus[1][key] + taus[2][key])


def test_the_flow_scales_with_its_experts_and_adam_does_not():
    taus = experts(3, size=1e-2)
    small = [{k: 1e-3 * v for k, v in tau.items()} for tau in taus]
    key = next(iter(BLOCKS))
    torch.testing.assert_close(wudi_flow(small, time=3)[key], 1e-3 * wudi_flow(taus, time=3)[key])
    torch.testing.assert_close(wudi_flow(small)[key], 1e-3 * wudi_flow(taus)[key])
    assert not torch.allclose(wudi(small)[key], 1e-3 * wudi(taus)[key], rtol=0.1)


def test_experts_that_use_different_inputs_are_simply_added():
    a, b = torch.zeros(2, 4, 5, dtype=torch.float64)
    a[:, :2], b[:, 2:4] = torch.arange(8.0).reshape(4, 2), torch.arange(8.0).reshape(4, 2).flip(0) - 2
    taus = [{"mlp.c_fc.weight": a}, {"mlp.c_fc.weight": b}]
    torch.testing.assert_close(wudi(taus)["mlp.c_fc.weight"], a + b)
    torch.testing.assert_close(wudi_flow(taus)["mlp.c_fc.weight"], a + b)


@EITHER
class TestBothSolvers:
    def test_one_expert_returns_as_it_came(self, merge):
        (tau,) = experts(1)
        torch.testing.assert_close(merge([tau], scope="matrices"), tau)
        rest = {key: torch.zeros_like(tau[key]) for key in REST}
        torch.testing.assert_close(merge([tau], scope="blocks"), tau | rest)

    def test_scope_blocks_leaves_the_rest_pre_trained(self, merge):
        taus = experts(3)
        merged = merge(taus)
        assert list(merged) == list(SHAPES)
        for key in REST:
            assert merged[key].shape == taus[0][key].shape
            assert not merged[key].any()
        for key in BLOCKS:
            torch.testing.assert_close(merged[key], merge(taus, scope="matrices")[key])

    def test_scope_matrices_solves_every_matrix_and_averages_the_rest(self, merge):
        taus = experts(3)
        merged = merge(taus, scope="matrices")
        for key in ("visual.class_embedding", "visual.conv1.weight", "scale"):
            torch.testing.assert_close(merged[key], (taus[0][key] + taus[1][key] + taus[2][key]) / 3)
        alone = merge([{"mlp.c_fc.weight": tau["visual.proj"]} for tau in taus])["mlp.c_fc.weight"]
        torch.testing.assert_close(merged["visual.proj"], alone)

    def test_the_order_of_the_experts_does_not_matter(self, merge):
        taus = experts(3)
        torch.testing.assert_close(merge(taus), merge([taus[1], taus[2], taus[0]]))

    def test_flipping_all_signs_flips_the_result(self, merge):
        taus = experts(3)
        flipped = merge([{k: -v for k, v in tau.items()} for tau in taus])
        torch.testing.assert_close(flipped, {k: -v for k, v in merge(taus).items()})

    def test_an_expert_of_zeros_has_no_say(self, merge):
        taus = experts(2)
        zero = {k: torch.zeros_like(v) for k, v in taus[0].items()}
        torch.testing.assert_close(merge([*taus, zero]), merge(taus))
        assert not any(v.any() for v in merge([zero, zero]).values())

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
    def test_half_precision_is_computed_in_float32(self, merge, dtype):
        low = [{k: v.to(dtype) for k, v in tau.items()} for tau in experts(3, dtype=torch.float32)]
        merged = merge(low, scope="matrices")
        exact = merge([{k: v.float() for k, v in tau.items()} for tau in low], scope="matrices")
        assert {v.dtype for v in merged.values()} == {dtype}
        torch.testing.assert_close(merged, {k: v.to(dtype) for k, v in exact.items()})

    def test_inputs_stay_and_may_be_non_contiguous_or_lazy(self, merge):
        taus = experts(3)
        before = [{k: v.clone() for k, v in tau.items()} for tau in taus]
        strided = [{k: v.mT.contiguous().mT if v.ndim == 2 else v for k, v in tau.items()} for tau in taus]
        base = {k: torch.zeros_like(v) for k, v in taus[0].items()}
        expected = merge(taus)
        torch.testing.assert_close(merge(strided), expected)
        torch.testing.assert_close(merge(lazy_task_vectors(base, taus)), expected)
        torch.testing.assert_close(taus, before, rtol=0, atol=0)
        assert not any(v.requires_grad for v in expected.values())

    @pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (0, 3)])
    def test_the_smallest_matrices(self, merge, shape):
        merged = merge(experts(3, shapes={"mlp.c_fc.weight": shape}))["mlp.c_fc.weight"]
        assert merged.shape == shape
        assert merged.isfinite().all()

    def test_one_tensor_of_a_streamed_model_may_lie_outside_the_blocks(self, merge):
        assert not merge(experts(2, shapes={"fc.weight": (3, 2)}))["fc.weight"].any()

    def test_what_is_wrong_is_named(self, merge):
        taus = experts(2)
        with pytest.raises(ValueError, match="scope: got 'linear', expected 'blocks' or 'matrices'"):
            merge(taus, scope="linear")
        with pytest.raises(ValueError, match=r"scope 'blocks': got keys like 'fc\.weight', expected some that end in"):
            merge(experts(2, shapes={"fc.weight": (3, 2), "fc.bias": (3,)}))
        with pytest.raises(ValueError, match="got 0 task vectors"):
            merge([])
        taus[1]["visual.proj"][0, 0] = torch.nan
        with pytest.raises(ValueError, match=r"task vector 1, key 'visual\.proj': got 1 entries"):
            merge(taus)


@pytest.mark.parametrize("arguments", [{"steps": -1}, {"lr": 0.0}, {"lr": -1e-5}])
def test_wudi_names_steps_and_learning_rates_that_make_no_sense(arguments):
    with pytest.raises(ValueError, match="expected steps >= 0 and lr > 0"):
        wudi(experts(2), **arguments)


def test_no_step_at_all_is_task_arithmetic():
    taus = experts(2)
    for key in BLOCKS:
        torch.testing.assert_close(wudi(taus, steps=0)[key], taus[0][key] + taus[1][key])


@pytest.mark.parametrize("time", [-1.0, float("nan")])
def test_wudi_flow_names_a_time_that_makes_no_sense(time):
    with pytest.raises(ValueError, match=r"time: got .*, expected a number >= 0"):
        wudi_flow(experts(2), time=time)
