"""Answers that learners gave, or may give: each is caught, and told what is wrong with *it*.

They were invented by somebody who had not read the bank, and they once passed, or got the hint of another mistake.
"""

import math

import pytest
import torch

from samerge_edu.course import bank
from samerge_edu.course.examine import BY_HAND, RETURNS, examine


def reference(id):
    return bank.exercise(id).reference


def answer(id, hint):
    """Register a wrong answer to exercise `id`, and a part of the hint it must get."""

    def register(function):
        ANSWERS.append(pytest.param(id, function, hint, id=f"{id}-{function.__name__}"))
        return function

    return register


ANSWERS: list = []

# ---------------------------------------------------------------------------- 00 and 01


@answer("00.1", "largest cosine")
def cosines_returned(images, captions):
    images, captions = (t / t.norm(dim=1, keepdim=True) for t in (images, captions))
    return (images @ captions.T).max(dim=1).values


@answer("00.2", "number of tensors")
def divided_by_the_number_of_tensors(thetas):
    return {k: sum(t[k] for t in thetas) / len(thetas[0]) for k in thetas[0]}


@answer("00.3", "a float")
def zero_dim_share(merged, experts):
    return 100 * (merged / experts).mean()


@answer("01.3", "worst task")
def lam_by_the_worst_task(lams, validation, test):
    best = int(validation.amin(dim=1).argmax())
    return lams[best], float(test[best].mean())


@answer("01.3", "a tuple (a float, a float)")
def pair_as_list(lams, validation, test):
    return list(reference("01.3")(lams, validation, test))


@answer("01.3", "a tuple (a float, a float)")
def accuracy_as_tensor(lams, validation, test):
    lam, accuracy = reference("01.3")(lams, validation, test)
    return lam, torch.tensor(accuracy)


@answer("01.4", "first entry for the base")
def base_is_the_first(lams, target, control, keep=0.95):
    allowed = [i for i in range(len(lams)) if control[i] >= keep * control[0]]
    return lams[min(allowed, key=lambda i: target[i])]


@answer("01.4", "Exactly `keep`")
def strict_floor(lams, target, control, keep=0.95):
    base = lams.index(0.0)
    allowed = [i for i in range(len(lams)) if i == base or control[i] > keep * control[base]]
    return lams[min(allowed, key=lambda i: target[i])]


@answer("01.4", "best control accuracy")
def floor_from_the_maximum(lams, target, control, keep=0.95):
    allowed = [i for i in range(len(lams)) if control[i] >= keep * max(control)]
    return lams[min(allowed, key=lambda i: target[i])]


# ---------------------------------------------------------------------------- 02


@answer("02.1", "a float")
def conflict_as_tensor(tau):
    return torch.tensor(reference("02.1")(tau))


@answer("02.2", "cut off the decimals")
def trimmed_to_int(tau, density=0.2):
    kept = tau.abs().topk(int(density * tau.shape[1])).indices
    return tau * torch.zeros_like(tau).scatter(1, kept, 1.0)


@answer("02.2", "ties give more than k")
def ties_stay(tau, density=0.2):
    k, size = round(density * tau.shape[1]), tau.abs()
    return tau * (size >= size.topk(k).values[:, -1:]) if k else 0 * tau


@answer("02.2", "rounds to 0")
def never_empty(tau, density=0.2):
    kept = tau.abs().topk(max(1, round(density * tau.shape[1]))).indices
    return tau * torch.zeros_like(tau).scatter(1, kept, 1.0)


@answer("02.2", "changes its arguments")
def trimmed_in_place(tau, density=0.2):
    tau *= torch.zeros_like(tau).scatter(1, tau.abs().topk(round(density * tau.shape[1])).indices, 1.0)
    return tau


@answer("02.4", "A 0 takes part")
def at_least_zero(tau_hat, gamma):
    agree = tau_hat * gamma >= 0
    return (tau_hat * agree).sum(0) / agree.sum(0).clamp(min=1)


@answer("02b.1", "exactly round(density * n)")
def exact_quota(tau, density, generator):
    mask = torch.zeros(tau.numel())
    mask[torch.rand(tau.numel(), generator=generator).topk(round(density * tau.numel())).indices] = 1 / density
    return tau * mask.view(tau.shape)


@answer("02b.1", "at density = 1 it keeps nothing")
def greater_than_density(tau, density, generator):
    return torch.where(torch.rand(tau.shape, generator=generator) > density, tau / density, 0.0)


@answer("02b.1", "whole column")
def a_coin_for_a_column(tau, density, generator):
    return (torch.rand(tau.shape[-1:], generator=generator) < density) * tau / density


@answer("02b.4", "a variable of the notebook")
def the_notebooks_number_of_experts(tau):
    size = tau.abs()
    u = (size - size.amin(1, True)) / (size.amax(1, True) - size.amin(1, True)).clamp(min=1e-12)
    return (8 * u**2).exp() * (tau * (tau.sign() * u).sum(0)).tanh()


@answer("02b.4", "N is the number of experts, not of entries")
def number_of_entries(tau):
    size = tau.abs()
    u = (size - size.amin(1, True)) / (size.amax(1, True) - size.amin(1, True)).clamp(min=1e-12)
    return (tau.shape[1] * u**2).exp() * (tau * (tau.sign() * u).sum(0)).tanh()


@answer("02b.4", "range of its own row")
def global_range(tau):
    u = (tau.abs() - tau.abs().min()) / (tau.abs().max() - tau.abs().min()).clamp(min=1e-12)
    return (len(tau) * u**2).exp() * (tau * (tau.sign() * u).sum(0)).tanh()


# ---------------------------------------------------------------------------- 03


@answer("03.1", "Signed weights flow")
def signed_weights(Ws):
    x = torch.ones(Ws[0].shape[1])
    for W in Ws:
        x = W @ x
    return float(x.abs().sum())


@answer("03.1", "A matrix is (out, in)")
def transposed_matrices(Ws):
    x = torch.ones(Ws[0].shape[1])
    for W in Ws:
        x = W.abs().T @ x
    return float(x.sum())


@answer("03.1", "a float")
def strength_as_tensor(Ws):
    return torch.tensor(reference("03.1")(Ws))


@answer("03.2", "You swap the two sides")
def sides_swapped(Ws):
    x, u = [torch.ones(Ws[0].shape[1])], [torch.ones(Ws[-1].shape[0])]
    for W in Ws[:-1]:
        x.append(W.abs() @ x[-1])
    for W in Ws[:0:-1]:
        u.insert(0, u[0] @ W.abs())
    return [x_l[:, None] * W.abs() * u_l for W, x_l, u_l in zip(Ws, x, u, strict=True)]


@answer("03.3", "You round up")
def ceiling(t, rounds, density, numel):
    return math.ceil(density ** (t / rounds) * numel - 1e-9)


@answer("03.3", "an int")
def count_as_float(t, rounds, density, numel):
    return float(reference("03.3")(t, rounds, density, numel))


@answer("03.3", "nothing is pruned before")
def whole_rounds(t, rounds, density, numel):
    return round(numel * density ** (t // rounds))


@answer("03.4", "bool tensor")
def float_masks(scores, k):
    return [m.float() for m in reference("03.4")(scores, k)]


@answer("03.4", "sizes of the scores")
def sizes_of_scores(scores, k):
    flat = torch.cat([S.flatten() for S in scores]).abs()
    m = torch.zeros(len(flat), dtype=torch.bool)
    m[flat.topk(k).indices] = True
    return [part.view_as(S) for part, S in zip(m.split([S.numel() for S in scores]), scores, strict=True)]


# ---------------------------------------------------------------------------- 04 and 05


@answer("04.3", "the gains are not")
def gains_with_signs(x, g_1, W_v, W_out, g_2, W_fc1, W_fc2):
    x = x + W_out.abs() @ W_v.abs() @ (g_1 * x)
    return x + W_fc2.abs() @ W_fc1.abs() @ (g_2 * x)


@answer("04.3", "changes its arguments")
def block_in_place(x, g_1, W_v, W_out, g_2, W_fc1, W_fc2):
    x += W_out.abs() @ (W_v.abs() @ (g_1.abs() * x))
    x += W_fc2.abs() @ (W_fc1.abs() @ (g_2.abs() * x))
    return x


@answer("04.4", "a float")
def correlation_as_tensor(a, b):
    return torch.tensor(reference("04.4")(a, b))


@answer("04.5", "Unit i is row i")
def wrong_side(W_in, W_out, s):
    return W_in * s, W_out / s


@answer("04.5", "a tuple (")
def list_of_matrices(W_in, W_out, s):
    return [s[:, None] * W_in, W_out / s]


@answer("05.1", "exchanged")
def literal_for_agreement():
    return {"literal": [3, 4, -2, -5], "agreement": [3, -4, 2, -5], "abs": [3, 4, 2, 5]}


@answer("05.1", "`abs` has signs")
def signed_abs():
    return {"literal": [3, -4, 2, -5], "agreement": [3, 4, -2, -5], "abs": [3, 4, -2, -5]}


@answer("05.4", "Dice")
def dice_measure(a, b):
    return (2 * (a & b).sum() / (a.sum() + b.sum()).clamp(min=1)).item()


@answer("05.4", "may keep nothing at all")
def divided_by_nothing(a, b):
    return int((a & b).sum()) / int((a | b).sum())


# ---------------------------------------------------------------------------- 06 and 07


@answer("06.1", "without t")
def share_of_what_is_left(S, tau, t, p):
    keep = math.ceil((1 - p) * int((tau != 0).sum()) - 1e-9)
    mask = torch.zeros(tau.numel(), dtype=torch.bool)
    mask[torch.where(tau != 0, S, -torch.inf).flatten().topk(keep).indices] = True
    return mask.view_as(tau)


@answer("06.1", "0 beats every negative score")
def zero_for_pruned(S, tau, t, p):
    keep = math.ceil((1 - p) ** t * tau.numel() * (1 - 1e-12))
    mask = torch.zeros(tau.numel(), dtype=torch.bool)
    mask[(S * (tau != 0)).flatten().topk(keep).indices] = True
    return mask.view_as(tau) & (tau != 0)


@answer("06.1", "at a tie more than the quota")
def tied(S, tau, t, p):
    keep = math.ceil((1 - p) ** t * tau.numel() * (1 - 1e-12))
    alive = torch.where(tau != 0, S, -torch.inf)
    return (tau != 0) & (alive >= alive.flatten().topk(keep).values[-1])


@answer("06.1", "rounded *up*")
def nearest(S, tau, t, p):
    keep = round((1 - p) ** t * tau.numel())
    mask = torch.zeros(tau.numel(), dtype=torch.bool)
    mask[torch.where(tau != 0, S, -torch.inf).flatten().topk(keep).indices] = True
    return mask.view_as(tau) & (tau != 0)


@answer("06.5", "There may be no random mask")
def no_draws(method, random):
    return sum(r >= method for r in random) / len(random)


@answer("07.1", "root of alpha")
def root_of_alpha(A, B, alpha, rslora=False):
    s = (alpha / len(A)) ** 0.5 if rslora else alpha / len(A)
    return s * B @ A


@answer("07.4", "by way of B A")
def through_the_product(A, B):
    U, S, Vt = torch.linalg.svd(B @ A, full_matrices=False)
    r = len(A)
    return (Vt[:r].T * S[:r].sqrt()).T, U[:, :r] * S[:r].sqrt()


# ---------------------------------------------------------------------------- 08 and 12


@answer("08.1", "L2")
def l2(taus, norm="mean"):
    bar = {k: sum(t[k] for t in taus) / len(taus) for k in taus[0]}
    return {
        k: torch.stack([(t[k] - bar[k]).norm() / (t[k].numel() if norm == "mean" else 1) for t in taus]) for k in bar
    }


@answer("08.1", "mean of the *others*")
def leave_one_out(taus, norm="mean"):
    out = {}
    for k in taus[0]:
        tau = torch.stack([t[k] for t in taus])
        d = (tau - (tau.sum(0) - tau) / (len(taus) - 1)).abs().flatten(1)
        out[k] = d.mean(1) if norm == "mean" else d.sum(1)
    return out


@answer("08.1", "shape")
def mean_over_columns_only(taus, norm="mean"):
    tau = {k: torch.stack([t[k] for t in taus]) for k in taus[0]}
    d = {k: (v - v.mean(0)).abs() for k, v in tau.items()}
    return {k: v.mean(1) if norm == "mean" else v.flatten(1).sum(1) for k, v in d.items()}


@answer("08.2", "quantile lies between")
def quantile(S, eta=0.7):
    return (S > S.quantile(eta, dim=1, keepdim=True)).any(0)


@answer("08.2", "equal scores together")
def kth_or_above(S, eta=0.7):
    k = S.shape[1] - round(eta * S.shape[1])
    return (S >= S.topk(k).values[:, -1:]).any(0) if k else torch.zeros(S.shape[1], dtype=torch.bool)


@answer("08.4", "More layers are named")
def runs_out(pruned, L, named=1):
    return math.comb(L - named, L - pruned) / math.comb(L, pruned) if named <= pruned else 1 / 0


@answer("12.2", "You round")
def one_decimal(ours, family, published):
    return {k: round(v, 1) for k, v in reference("12.2")(ours, family, published).items()}


@answer("12.2", "contains ours")
def substring(ours, family, published):
    return reference("12.2")(ours, family, [{**row, "family": family} for row in published if family in row["family"]])


@answer("12.2", "first row")
def first_wins(ours, family, published):
    return reference("12.2")(ours, family, list(reversed(published)))


@answer("12.3", "`layers.1` is also a part of `layers.10`")
def substring_of_the_name(hf, i):
    names = [
        [n for x in "qkv" for n in hf if f"layers.{i}" in n and f"{x}_proj.{kind}" in n] for kind in ("weight", "bias")
    ]
    return {
        f"in_proj_{kind}": torch.cat([hf[n] for n in ns]) for kind, ns in zip(("weight", "bias"), names, strict=True)
    }


@pytest.mark.parametrize(("id", "function", "hint"), ANSWERS)
def test_a_wrong_answer_is_caught_and_told_what_is_wrong_with_it(id, function, hint):
    verdict = examine(bank.exercise(id), function)
    assert verdict["verdict"] in ("NOT YET", "ERROR")
    assert hint in verdict["hint"], verdict


# ---------------------------------------------------------------------------- what was misleading


def hint_of(id, function):
    return examine(bank.exercise(id), function)["hint"]


def test_no_hint_is_about_a_mistake_that_agrees_with_the_answer_in_some_cases_only():
    """Each of these agrees with a mistake of the bank in the smallest case, and differs from it in another."""

    def half_as_much(theta_0, tau, lam=1.0):  # as `base_forgotten` where the base is 0 only
        return {k: lam * tau[k] if lam == 1 else 17 * tau[k] for k in theta_0}

    def mostly_dropped_sign(G, theta_0, tau):  # as `always_positive` for three numbers of four
        return (G * tau).abs() + (theta_0 > 2)

    def sum_where_short(thetas):
        return {k: sum(t[k] for t in thetas) / (1 if len(thetas) == 2 else 3) for k in thetas[0]}

    assert hint_of("01.2", half_as_much) == BY_HAND
    assert hint_of("04.1", mostly_dropped_sign) == BY_HAND
    assert "You return the sum" not in hint_of("00.2", sum_where_short)


def test_what_passes_has_the_type_that_the_notebook_uses_and_is_told_which():
    verdict = examine(bank.exercise("03.3"), count_as_float)
    assert (verdict["law"], verdict["expected"], verdict["got"]) == (RETURNS, "an int", "a float")
    assert (
        verdict["hint"]
        == "The values are right: return an int, as the docstring says, for the notebook goes on with it."
    )
    assert examine(bank.exercise("06.5"), lambda method, random: 1)["law"] != RETURNS  # an int is a fine float


def test_what_an_error_means_is_said_only_of_errors_with_that_cause():
    def of_another_dtype(Ws):
        return (Ws[0].long() @ torch.ones(Ws[0].shape[1])).sum().item()

    verdict = examine(bank.exercise("03.1"), of_another_dtype)
    assert verdict["verdict"] == "ERROR"
    assert "A matrix is (out, in)" not in verdict["hint"]
    assert "A matrix is (out, in)" in examine(bank.exercise("03.1"), transposed_matrices)["hint"]
