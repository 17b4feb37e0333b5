"""SVC, MagMax and EMR: each against a loop that does not use its code, and at its limits."""

from functools import partial

import numpy as np
import pytest
import scipy.linalg
import torch

from samerge_edu.merges.emr import emr, emr_masks
from samerge_edu.merges.magmax import magmax
from samerge_edu.merges.svc import svc
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.params import add

SHAPES = {"wide": (4, 9), "tall": (9, 4), "bias": (7,), "patch": (3, 2, 2, 2)}


def experts(N=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    common = {k: torch.randn(s, generator=g, dtype=torch.float64) for k, s in SHAPES.items()}
    return [
        {k: (n + 1) * (torch.randn(s, generator=g, dtype=torch.float64) + common[k]) for k, s in SHAPES.items()}
        for n in range(N)
    ]


# ---------------------------------------------------------------------------- SVC


def calibrated_by_loop(tau_m, matrices, alpha):
    U, S, Vt = scipy.linalg.svd(tau_m.numpy(), full_matrices=False)
    for r in range(len(S)):
        loudness = []
        for tau in matrices:
            a_m, a = U[:, r] @ tau_m.numpy(), U[:, r] @ tau.numpy()
            loudness.append(max(alpha, (a_m @ a) / (a @ a)))
        S[r] *= len(matrices) / sum(loudness)
    return torch.from_numpy(U @ np.diag(S) @ Vt)


@pytest.mark.parametrize("lam", [1.0, 0.3])
@pytest.mark.parametrize("alpha", [None, 0.1, 1.0, 2.5])
def test_svc_is_algorithm_1_in_loops(alpha, lam):
    taus = experts()
    got = svc(taus, merge=task_arithmetic, lam=lam, floor=alpha)
    for key in ("wide", "tall"):
        tau_m = lam * sum(tau[key] for tau in taus)
        expected = calibrated_by_loop(tau_m, [tau[key] for tau in taus], 1 / 3 if alpha is None else alpha)
        torch.testing.assert_close(got[key], expected)
    for key in ("bias", "patch"):
        torch.testing.assert_close(got[key], lam * sum(tau[key] for tau in taus))


def test_svc_of_one_expert_returns_it():
    (tau,) = experts(1)
    torch.testing.assert_close(svc([tau], merge=task_arithmetic), tau)


def test_svc_of_copies_returns_one_of_them_however_often_they_were_added():
    (tau,) = experts(1)
    got = svc([tau] * 5, merge=task_arithmetic)
    for key in ("wide", "tall"):
        torch.testing.assert_close(got[key], tau[key])


def test_svc_with_alpha_1_never_turns_up_and_with_less_it_may():
    taus = experts()
    before = torch.linalg.svdvals(0.3 * sum(tau["wide"] for tau in taus))
    after = torch.linalg.svdvals(svc(taus, merge=task_arithmetic, lam=0.3, floor=1.0)["wide"])
    assert (after <= before + 1e-12).all()
    assert (torch.linalg.svdvals(svc(taus, merge=task_arithmetic, lam=0.3, floor=0.2)["wide"]) > before).any()


def test_a_silent_expert_counts_as_alpha():
    (tau,) = experts(1)
    zero = {k: torch.zeros_like(v) for k, v in tau.items()}
    got = svc([tau, zero], merge=task_arithmetic, floor=0.5)
    torch.testing.assert_close(got["wide"], tau["wide"] * 2 / 1.5)


def test_svc_leaves_what_is_no_matrix_to_it():
    taus = experts()
    got = svc(taus, merge=task_arithmetic, is_matrix=lambda name, tensor: name == "tall")
    torch.testing.assert_close(got["wide"], sum(tau["wide"] for tau in taus))
    assert not torch.allclose(got["tall"], sum(tau["tall"] for tau in taus))


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_svc_names_an_alpha_that_makes_no_sense(alpha):
    with pytest.raises(ValueError, match=r"floor: got .*, expected a number > 0"):
        svc(experts(), merge=task_arithmetic, floor=alpha)


# ---------------------------------------------------------------------------- MagMax and EMR


def test_magmax_takes_at_each_entry_the_expert_that_changed_it_most():
    taus = experts()
    merged = magmax(taus)
    for key, shape in SHAPES.items():
        tau = np.stack([t[key].numpy() for t in taus])
        for place in np.ndindex(shape):
            column = tau[(slice(None), *place)]
            assert merged[key][place] == column[np.argmax(np.abs(column))]


def test_of_two_equally_far_the_positive_one_wins_whoever_comes_first():
    a, b = {"w": torch.tensor([-2.0, 2.0])}, {"w": torch.tensor([2.0, -2.0])}
    for order in ([a, b], [b, a]):
        assert magmax(order)["w"].tolist() == [2.0, 2.0]


def test_magmax_of_long_tensors_is_not_cut():
    g = torch.Generator().manual_seed(0)
    taus = [{"w": torch.randn(3, 2**16 + 5, generator=g)} for _ in range(2)]
    expected = torch.where(taus[0]["w"].abs() > taus[1]["w"].abs(), taus[0]["w"], taus[1]["w"])
    torch.testing.assert_close(magmax(taus)["w"], expected)


@pytest.mark.parametrize("N", [1, 2])
def test_magmax_of_a_tensor_without_entries_is_one(N):
    assert magmax([{"w": torch.zeros(0, 3, dtype=torch.float16)}] * N)["w"].shape == (0, 3)


def test_emr_elects_a_side_and_goes_as_far_as_its_farthest():
    taus = experts(4)
    merged = emr(taus)
    for key, shape in SHAPES.items():
        tau = np.stack([t[key].numpy() for t in taus])
        for place in np.ndindex(shape):
            column = tau[(slice(None), *place)]
            side = [x for x in column if x * column.sum() > 0]
            assert merged[key][place] == max(side, key=abs)


def test_emr_masks_and_factors():
    taus = experts()
    tau_m = emr(taus)
    for tau, (m, lam) in zip(taus, emr_masks(taus), strict=True):
        for key in SHAPES:
            assert m[key].equal(tau[key] * tau_m[key] > 0)
        own = sum(float(tau[k].abs().mean()) for k in SHAPES)
        shared = sum(float((m[k] * tau_m[k]).abs().mean()) for k in SHAPES)
        assert lam == pytest.approx(own / shared)


def test_emr_gives_a_lone_expert_back():
    (tau,) = experts(1)
    torch.testing.assert_close(emr([tau]), tau)
    ((m, lam),) = emr_masks([tau])
    assert lam == pytest.approx(1.0)
    assert all(mask.all() for mask in m.values())


def test_through_its_mask_an_expert_is_nearer_than_through_the_plain_sum():
    taus = experts(6, seed=3)
    tau_m = emr(taus)
    for tau, (m, lam) in zip(taus, emr_masks(taus), strict=True):
        theta = add({k: torch.zeros_like(v) for k, v in tau.items()}, {k: m[k] * tau_m[k] for k in tau}, lam)
        off = sum(float((theta[k] - tau[k]).square().sum()) for k in tau)
        assert off < sum(float((task_arithmetic(taus)[k] - tau[k]).square().sum()) for k in tau)


def test_an_expert_of_zeros_has_the_factor_0():
    tau, zero = experts(1)[0], {k: torch.zeros(s, dtype=torch.float64) for k, s in SHAPES.items()}
    _, (m, lam) = emr_masks([tau, zero])
    assert lam == 0.0
    assert not any(mask.any() for mask in m.values())


@pytest.mark.parametrize("merge", [magmax, emr, emr_masks, partial(svc, merge=task_arithmetic)])
def test_refusals(merge):
    taus = experts()
    with pytest.raises(ValueError, match="got 0 task vectors"):
        merge([])
    taus[1]["wide"][0, 0] = torch.nan
    with pytest.raises(ValueError, match="task vector 1, key 'wide': got 1 entries that are NaN"):
        merge(taus)
