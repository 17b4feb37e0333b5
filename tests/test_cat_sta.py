"""CAT Merging and Selective Task Arithmetic: what they remove, by brute force; limits and bad input."""

import pytest
import torch

from samerge_edu.transforms.cat import cat
from samerge_edu.transforms.sta import sta
from samerge_edu.transforms.trim import trim

SHAPES = {"w": (5, 4), "tall": (6, 2), "b": (3,), "scale": ()}
MATRICES = ("w", "tall")


def experts(N=3, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return [{k: torch.randn(s, generator=g, dtype=dtype) for k, s in SHAPES.items()} for _ in range(N)]


def inputs(N=3, seed=4, rows=3):
    g = torch.Generator().manual_seed(seed)
    return [{k: torch.randn(rows, SHAPES[k][1], generator=g, dtype=torch.float64) for k in MATRICES} for _ in range(N)]


def grams(X):
    return [{k: x.T @ x for k, x in of_task.items()} for of_task in X]


# ---------------------------------------------------------------------------- CAT


def conflict(taus, X, k, B, keep, key="w"):
    """sum over the others of |what they add to task k's answers in B|^2 - keep |what they would lose|^2."""
    total = 0
    for i in range(len(taus)):
        if i != k:
            total += (X[k][key] @ taus[i][key].T @ B).square().sum()
            total -= keep * (X[i][key] @ taus[i][key].T @ B).square().sum()
    return total


@pytest.mark.parametrize("keep", [0.0, 0.7])
def test_with_two_experts_what_is_removed_is_the_direction_of_most_conflict(keep):
    taus, X = experts(2), inputs(2)
    without = cat(taus, grams(X), rank=1, keep=keep)
    g = torch.Generator().manual_seed(1)
    for i, k in [(0, 1), (1, 0)]:  # expert i gives up what task k protects
        removed = taus[i]["w"] - without[i]["w"]
        U, S, _ = torch.linalg.svd(removed)
        assert S[1] < 1e-9 * S[0], "one direction only"
        B = U[:, :1]
        torch.testing.assert_close(B.T @ without[i]["w"], torch.zeros(1, 4, dtype=torch.float64), rtol=0, atol=1e-9)
        most = conflict(taus, X, k, B, keep)
        for _ in range(300):
            other = torch.nn.functional.normalize(torch.randn(5, 1, generator=g, dtype=torch.float64), dim=0)
            assert conflict(taus, X, k, other, keep) <= most + 1e-9


def test_enough_directions_leave_no_conflict_at_all():
    """Rank 3 inputs: three directions hold all that the other expert does to task k's answers."""
    taus, X = experts(2), inputs(2, rows=3)
    without = cat(taus, grams(X), rank=3, keep=0.0)
    for i, k in [(0, 1), (1, 0)]:
        for key in MATRICES:
            assert (X[k][key] @ without[i][key].T).norm() < 1e-9
            assert (X[k][key] @ taus[i][key].T).norm() > 1
        assert (X[i]["w"] @ without[i]["w"].T).norm() > 0.1, "its own task keeps something"


def test_each_gives_up_what_all_others_protect_whatever_their_order():
    taus, G = experts(), grams(inputs())
    without = cat(taus, G, rank=1)
    rotated = cat([taus[1], taus[2], taus[0]], [G[1], G[2], G[0]], rank=1)
    for got, expected in zip(rotated, [without[1], without[2], without[0]], strict=True):
        torch.testing.assert_close(got, expected)
    for n in range(3):
        removed = torch.linalg.svdvals(taus[n]["w"] - without[n]["w"])
        assert (removed > 1e-9).sum() == 2  # one direction for each of two others


def test_keep_protects_the_experts_own_task():
    taus, X = experts(2), inputs(2)
    lost = []
    for keep in (0.0, 1.0, 10.0):
        without = cat(taus, grams(X), rank=1, keep=keep)
        lost.append((X[0]["w"] @ (taus[0]["w"] - without[0]["w"]).T).norm().item())
    assert lost[0] > lost[1] > lost[2]


def test_cat_limits():
    taus, G = experts(), grams(inputs())
    torch.testing.assert_close(cat(taus, G, rank=0), taus)
    torch.testing.assert_close(cat(taus[:1], G[:1]), taus[:1])
    zero = [{k: 0 * v for k, v in g.items()} for g in G]
    torch.testing.assert_close(cat(taus, zero), taus)
    torch.testing.assert_close(cat(taus, G, keep=1e9), taus)  # nothing is worth the loss
    for before, after in zip(taus, cat(taus, G), strict=True):
        torch.testing.assert_close([after["b"], after["scale"]], [before["b"], before["scale"]])
        assert list(after) == list(before)
    everything = cat(taus, G, rank=5, keep=0.0)
    assert all(tau["tall"].norm() < 1e-6 for tau in everything)


def test_cat_protects_3_directions_and_weighs_both_alike_unless_asked():
    taus, G = experts(), grams(inputs())
    torch.testing.assert_close(cat(taus, G), cat(taus, G, keep=1.0))
    two = experts(2), grams(inputs(2, rows=8))  # four directions in conflict
    torch.testing.assert_close(cat(*two, keep=0.0), cat(*two, keep=0.0, rank=3))
    assert not torch.allclose(cat(*two, keep=0.0)[0]["w"], cat(*two, keep=0.0, rank=4)[0]["w"])


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_a_direction_without_conflict_is_not_removed_to_fill_the_rank(unit):
    """One input a task: one direction is in conflict; the eigenvalues of the others are 0 but for rounding."""
    taus, G = [{k: unit * v for k, v in tau.items()} for tau in experts(2)], grams(inputs(2, rows=1))
    for tau, without in zip(taus, cat(taus, G, rank=5, keep=0.0), strict=True):
        removed = torch.linalg.svdvals(tau["w"] - without["w"])
        assert (removed > 1e-9 * removed[0]).sum() == 1


def test_a_matrix_with_one_output_is_given_up_whole():
    taus = [{"w": tau["w"][:1]} for tau in experts(2)]
    for without in cat(taus, grams(inputs(2)), keep=0.0):
        torch.testing.assert_close(without["w"], torch.zeros(1, 4, dtype=torch.float64), rtol=0, atol=1e-9)


def test_two_tasks_that_protect_the_same_direction_are_no_trouble():
    taus, G = experts(2), grams(inputs(2))
    twice = cat([taus[0], taus[1], taus[1]], [G[0], G[1], G[1]], rank=1, keep=0.0)
    assert all(torch.isfinite(value).all() for tau in twice for value in tau.values())


def test_cat_keeps_dtypes_and_inputs():
    taus, G = experts(dtype=torch.float32), grams(inputs())
    low = [{k: v.bfloat16() for k, v in tau.items()} for tau in taus]
    before = [{k: v.clone() for k, v in tau.items()} for tau in low]
    assert {v.dtype for tau in cat(low, G) for v in tau.values()} == {torch.bfloat16}
    torch.testing.assert_close(low, before, rtol=0, atol=0)


def test_cat_names_what_is_wrong():
    taus, G = experts(), grams(inputs())
    with pytest.raises(ValueError, match="grams: got 2, expected 3, one an expert"):
        cat(taus, G[:2])
    for bad in ({"rank": -1}, {"keep": -0.1}, {"keep": float("nan")}):
        with pytest.raises(ValueError, match=r"rank, keep: got .*, expected numbers >= 0"):
            cat(taus, G, **bad)
    with pytest.raises(ValueError, match="grams: got no 'w' for some expert"):
        cat(taus, [G[0], {"tall": G[1]["tall"]}, G[2]])
    with pytest.raises(ValueError, match=r"Gram of 'w': got shape \(2, 2\), expected \(in, in\) of a matrix \(5, 4\)"):
        cat(taus, [G[0], G[1] | {"w": torch.eye(2)}, G[2]])
    with pytest.raises(ValueError, match=r"Gram of 'b': got shape"):
        cat(taus, [g | {"b": torch.eye(3)} for g in G])
    with pytest.raises(ValueError, match="Gram of 'w': got NaN"):
        cat(taus, [G[0], G[1] | {"w": torch.full((4, 4), torch.nan)}, G[2]])
    with pytest.raises(ValueError, match="got 0 task vectors"):
        cat([], [])
    taus[2]["b"][1] = torch.inf
    with pytest.raises(ValueError, match="task vector 2, key 'b'"):
        cat(taus, G)


# ---------------------------------------------------------------------------- STA


@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_sta_keeps_the_largest_products_of_gradient_and_change(scope):
    taus, g = experts(), experts(seed=8)
    kept = sta(taus, g, density=0.3, scope=scope)
    for n in range(3):
        product = {k: (taus[n][k] * g[n][k]).abs().reshape(-1).tolist() for k in SHAPES}
        everything = sorted((x for values in product.values() for x in values), reverse=True)
        for key, values in product.items():
            ranking = everything if scope == "global" else sorted(values, reverse=True)
            threshold = ranking[max(1, round(0.3 * len(ranking))) - 1]
            expected = [
                t if x >= threshold else 0.0 for t, x in zip(taus[n][key].reshape(-1).tolist(), values, strict=True)
            ]
            assert kept[n][key].reshape(-1).tolist() == expected


def test_sta_limits():
    taus, g = experts(), experts(seed=8)
    torch.testing.assert_close(sta(taus, g, density=1.0), taus)
    torch.testing.assert_close(sta(taus, g), sta(taus, g, density=0.2))
    flat = [{k: torch.where(v > 0, 1.0, -1.0) for k, v in grad.items()} for grad in g]
    torch.testing.assert_close(sta(taus, flat, density=0.3), trim(taus, density=0.3))
    zero = [{k: 0 * v for k, v in grad.items()} for grad in g]
    assert not any(v.any() for tau in sta(taus, zero, density=1.0) for v in tau.values())
    torch.testing.assert_close(
        sta(taus, [{k: -3 * v for k, v in grad.items()} for grad in g]), sta(taus, g)
    )  # neither sign nor size of a gradient matters
    low = [{k: v.half() for k, v in tau.items()} for tau in taus]
    assert {v.dtype for tau in sta(low, g) for v in tau.values()} == {torch.float16}


def test_sta_names_what_is_wrong():
    taus, g = experts(), experts(seed=8)
    with pytest.raises(ValueError, match="gradients: got 1, expected 3, one an expert"):
        sta(taus, g[:1])
    with pytest.raises(ValueError, match="gradient 1: got other names or shapes"):
        sta(taus, [g[0], {k: v for k, v in g[1].items() if k != "b"}, g[2]])
    with pytest.raises(ValueError, match="gradient 1: got other names or shapes"):
        sta(taus, [g[0], g[1] | {"w": g[1]["w"].T}, g[2]])
    with pytest.raises(ValueError, match="density: got 20, expected the fraction kept"):
        sta(taus, g, density=20)
    with pytest.raises(ValueError, match="scope: got 'row'"):
        sta(taus, g, scope="row")
    with pytest.raises(ValueError, match="got 0 task vectors"):
        sta([], [])
    with pytest.raises(ValueError, match="gradient 2, key 'b'"):
        sta(taus, [g[0], g[1], g[2] | {"b": torch.full((3,), torch.nan)}])
    with pytest.raises(ValueError, match="task vector 0, key 'b'"):
        sta([taus[0] | {"b": torch.full((3,), torch.nan).double()}, *taus[1:]], g)
