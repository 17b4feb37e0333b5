"""Fisher merging and RegMean++: against a loop, least squares, and FusionBench's numbers; limits and bad input."""

import pytest
import torch
from data_suite import DataSuite

from samerge_edu.merges.average import average
from samerge_edu.merges.fisher import fisher
from samerge_edu.merges.regmean import regmean
from samerge_edu.merges.regmean_pp import regmean_pp
from samerge_edu.params import add, task_vectors
from samerge_edu.statistics import input_grams

SHAPES = {"w": (3, 4), "b": (3,), "scale": ()}


def experts(N=3, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return [{k: torch.randn(s, generator=g, dtype=dtype) for k, s in SHAPES.items()} for _ in range(N)]


def fishers(N=3, seed=9, dtype=torch.float64):
    return [{k: v.square() * 10**n for k, v in F.items()} for n, F in enumerate(experts(N, seed, dtype))]


# ---------------------------------------------------------------------------- Fisher


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 3.0]])
@pytest.mark.parametrize("floor", [0.01, 5.0], ids=["small floor", "floor longer than a Fisher"])
def test_fisher_is_the_weighted_mean_of_each_entry(normalise, weights, floor):
    taus, F = experts(), fishers()
    w = [1.0] * 3 if weights is None else weights
    if normalise:
        w = [
            w_n / (sum(float(v.square().sum()) for v in F_n.values()) ** 0.5 + floor)
            for w_n, F_n in zip(w, F, strict=True)
        ]
    merged = fisher(taus, F, weights=weights, normalise=normalise, floor=floor)
    for key in SHAPES:
        for at in range(taus[0][key].numel()):
            entries = [tau[key].reshape(-1)[at] for tau in taus]
            trust = [w_n * (F_n[key].reshape(-1)[at] + floor) for w_n, F_n in zip(w, F, strict=True)]
            expected = sum(t * e for t, e in zip(trust, entries, strict=True)) / sum(trust)
            torch.testing.assert_close(merged[key].reshape(-1)[at], expected)


def test_fisher_is_the_mode_of_the_product_of_gaussians():
    """sum_n F_n (x - tau_n)^2 has its least value there: by a fine grid for one entry."""
    taus, F = [{"w": torch.tensor([v])} for v in (0.0, 1.0, 4.0)], [{"w": torch.tensor([f])} for f in (2.0, 1.0, 0.5)]
    x = torch.linspace(-1, 5, 60001)
    best = x[sum(f["w"] * (x - tau["w"]) ** 2 for f, tau in zip(F, taus, strict=True)).argmin()]
    assert fisher(taus, F, normalise=False, floor=0.0)["w"].item() == pytest.approx(best.item(), abs=1e-3)


def test_fisher_limits():
    taus, F = experts(), fishers()
    torch.testing.assert_close(fisher(taus, [F[0]] * 3), average(taus))
    torch.testing.assert_close(fisher(taus[:1], F[:1]), taus[0])
    zero = [{k: torch.zeros_like(v) for k, v in F_n.items()} for F_n in F]
    torch.testing.assert_close(fisher(taus, zero), average(taus))
    torch.testing.assert_close(fisher(taus, zero, floor=0.0), average(taus))
    torch.testing.assert_close(fisher(taus, F, floor=1e12), average(taus))
    torch.testing.assert_close(fisher(taus, F, weights=[0, 1, 0]), taus[1])
    torch.testing.assert_close(fisher(taus, [F[0], zero[1], zero[2]], normalise=False, floor=0.0), taus[0])
    torch.testing.assert_close(fisher(taus, [F[0], zero[1], F[2]], floor=0.0), fisher(taus[::2], F[::2], floor=0.0))
    torch.testing.assert_close(fisher(taus, F, weights=[1, 2, 3]), fisher(taus, F, weights=[10, 20, 30]))


def test_fisher_order_of_experts_of_keys_and_dtypes():
    taus, F = experts(), fishers()
    expected = fisher(taus, F)
    torch.testing.assert_close(fisher(taus[::-1], F[::-1]), expected)
    shuffled = [{k: tau[k] for k in reversed(tau)} for tau in taus]
    assert list(fisher(shuffled, F)) == list(reversed(SHAPES))
    low = [{k: v.bfloat16() for k, v in tau.items()} for tau in taus]
    merged = fisher(low, F)
    exact = fisher([{k: v.float() for k, v in tau.items()} for tau in low], F)
    assert {v.dtype for v in merged.values()} == {torch.bfloat16}
    torch.testing.assert_close(merged, {k: v.bfloat16() for k, v in exact.items()})


def test_normalising_makes_the_size_of_a_fisher_irrelevant():
    taus, F = experts(), fishers()
    low = [[{k: v.float() for k, v in x.items()} for x in xs] for xs in (taus, F)]
    tiny = [{k: 1e-24 * v for k, v in F_n.items()} for F_n in low[1]]  # their inverses squared are beyond float32
    torch.testing.assert_close(fisher(low[0], tiny, floor=0.0), fisher(*low, floor=0.0))
    louder = [F[0], {k: 100 * v for k, v in F[1].items()}, F[2]]
    torch.testing.assert_close(fisher(taus, louder, floor=0.0), fisher(taus, F, floor=0.0))
    assert not torch.allclose(
        fisher(taus, louder, normalise=False, floor=0.0)["w"], fisher(taus, F, normalise=False, floor=0.0)["w"]
    )


def test_fisher_names_what_is_wrong():
    taus, F = experts(), fishers()
    with pytest.raises(ValueError, match="fishers: got 2, expected 3, one an expert"):
        fisher(taus, F[:2])
    with pytest.raises(ValueError, match="Fisher of expert 1: missing key 'b'"):
        fisher(taus, [F[0], {k: v for k, v in F[1].items() if k != "b"}, F[2]])
    with pytest.raises(ValueError, match=r"Fisher of expert 2, key 'w': got shape \(4, 3\), expected \(3, 4\)"):
        fisher(taus, [F[0], F[1], F[2] | {"w": F[2]["w"].T}])
    for bad in (torch.nan, torch.inf, -1.0):
        with pytest.raises(ValueError, match="Fisher of expert 0, key 'b': got NaN, infinity or a negative"):
            fisher(taus, [F[0] | {"b": torch.tensor([1.0, bad, 2.0])}, *F[1:]])
    for bad in ([1.0, 2.0], [1.0, -1.0, 1.0], [0.0, 0.0, 0.0]):
        with pytest.raises(ValueError, match=r"weights: got .*, expected 3 numbers >= 0, not all 0"):
            fisher(taus, F, weights=bad)
    with pytest.raises(ValueError, match=r"floor: got -1\.0"):
        fisher(taus, F, floor=-1.0)
    with pytest.raises(ValueError, match="got 0 task vectors"):
        fisher([], [])
    taus[1]["w"][0, 0] = torch.nan
    with pytest.raises(ValueError, match="task vector 1, key 'w': got 1 entries that are NaN"):
        fisher(taus, F)


# ---------------------------------------------------------------------------- RegMean++


@pytest.fixture(scope="module")
def suite():
    return DataSuite()


@pytest.fixture(scope="module")
def taus(suite):
    return task_vectors(suite.theta_0, list(suite.experts.values()))


def grams_of(suite, n=24):
    return lambda i, tau, names: input_grams(suite, add(suite.theta_0, tau), suite.id_tasks[i], n, names=names)


def test_regmean_pp_is_least_squares_on_the_inputs_that_the_merged_blocks_send(suite, taus):
    """Block by block: X_n from a model put together by hand, then lstsq on the stacked inputs and answers."""
    merged = regmean_pp(taus, grams_of(suite), off_diagonal=1.0)
    for block in (0, 1):
        lower = {k for k in taus[0] if "resblocks" not in k or (block == 1 and "resblocks.0" in k)}
        X, Y = [], []
        key = f"transformer.resblocks.{block}.mlp.c_fc.weight"
        for n, tau in enumerate(taus):
            hybrid = {k: suite.theta_0[k] + (merged[k] if k in lower else tau[k]) for k in tau}
            seen = []
            suite.visual.load_state_dict(hybrid)
            part = suite.visual.transformer.resblocks[block].mlp.c_fc
            handle = part.register_forward_hook(lambda m, x, z, seen=seen: seen.append(x[0].detach()))
            with torch.no_grad():
                suite.visual(suite.images(suite.id_tasks[n], "train", 24)[0])
            handle.remove()
            X.append(seen[0].reshape(-1, 32).double())
            Y.append(X[-1] @ tau[key].double().T)
        expected = torch.linalg.lstsq(torch.cat(X), torch.cat(Y), rcond=1e-6, driver="gelsd").solution.T
        torch.testing.assert_close(merged[key].double(), expected, rtol=1e-3, atol=1e-4)


def test_regmean_pp_differs_from_regmean_only_above_the_first_block(suite, taus):
    same_embeddings = [tau | {k: sum(t[k] for t in taus) / 3 for k in tau if "resblocks" not in k} for tau in taus]
    pp = regmean_pp(same_embeddings, grams_of(suite))
    G = [
        input_grams(suite, add(suite.theta_0, tau), task, 24)
        for tau, task in zip(same_embeddings, suite.id_tasks, strict=True)
    ]
    plain = regmean(same_embeddings, G)
    for key in plain:
        if "resblocks.1" not in key or plain[key].ndim < 2:
            torch.testing.assert_close(pp[key], plain[key], rtol=1e-4, atol=1e-5)
    key = "transformer.resblocks.1.mlp.c_fc.weight"
    assert (pp[key] - plain[key]).norm() > 0.01 * plain[key].norm()


def test_regmean_pp_limits(taus):
    same = torch.eye(32) + 1

    def equal(n, tau, names):
        return {name: (torch.eye(64) if "c_proj" in name else same) for name in names}

    torch.testing.assert_close(regmean_pp(taus, equal), average(taus), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(regmean_pp(taus[:1], equal), taus[0], rtol=1e-4, atol=1e-6)
    assert list(regmean_pp(taus, equal)) == list(taus[0])


def test_regmean_pp_shrinks_the_off_diagonal():
    tau = [{"resblocks.0.w": torch.tensor([[2.0, 0.0]])}, {"resblocks.0.w": torch.tensor([[0.0, 4.0]])}]
    G = [torch.tensor([[1.0, 0.5], [0.5, 1.0]]), torch.tensor([[1.0, -0.5], [-0.5, 3.0]])]
    plain = [{"resblocks.0.w": g} for g in G]
    for a in (0.0, 0.3, 1.0):
        torch.testing.assert_close(
            regmean_pp(tau, lambda n, t, names: plain[n], off_diagonal=a), regmean(tau, plain, off_diagonal=a)
        )


def test_regmean_pp_measures_each_expert_once_a_block_on_top_of_what_is_merged(taus):
    calls = []

    def grams(n, tau, names):
        calls.append((n, {k: tau[k] for k in tau}, list(names)))
        return {name: torch.eye(taus[0][name].shape[1]) * (n + 1) for name in names}

    merged = regmean_pp(taus, grams)
    assert [n for n, _, _ in calls] == [0, 1, 2, 0, 1, 2]
    mean = average(taus)
    for n, tau, names in calls[3:]:
        assert all("resblocks.1" in name for name in names)
        assert len(names) == 4
        for key in tau:
            expected = taus[n][key] if "resblocks.1" in key else merged[key]
            torch.testing.assert_close(tau[key], expected, rtol=0, atol=0)
        torch.testing.assert_close(tau["proj"], mean["proj"])


def test_regmean_pp_names_what_is_wrong(taus):
    with pytest.raises(ValueError, match=r"off_diagonal: got 1\.1, expected a factor in"):
        regmean_pp(taus, None, off_diagonal=1.1)
    with pytest.raises(ValueError, match=r"got no block, expected names with 'resblocks\.l\.'"):
        regmean_pp([{"w": torch.ones(2, 2)}], None)
    with pytest.raises(ValueError, match=r"Gram of expert 0, key .*: got NaN or infinity"):
        regmean_pp(taus, lambda n, tau, names: {k: torch.full((taus[0][k].shape[1],) * 2, torch.nan) for k in names})
    with pytest.raises(ValueError, match=r"task vector 1, key 'proj': got \d+ entries that are NaN"):
        regmean_pp([taus[0], taus[1] | {"proj": taus[1]["proj"] * torch.nan}], None)
    with pytest.raises(ValueError, match="got 0 task vectors"):
        regmean_pp([], None)
