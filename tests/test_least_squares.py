"""The least-squares family: the shared solve against lstsq, and its four choices of the Gram at their limits."""

import numpy as np
import pytest
import torch

from samerge_edu.least_squares import (
    Computed,
    divide,
    every_matrix,
    least_squares,
    linear_weight,
    stand_ins,
    warn_if_too_long,
)
from samerge_edu.merges.actmat import actmat
from samerge_edu.merges.regmean import regmean
from samerge_edu.merges.tact import tact
from samerge_edu.merges.wudi import wudi_flow, wudi_optimum

SHAPES = {
    "resblocks.0.mlp.c_fc.weight": (9, 4),
    "resblocks.0.mlp.c_proj.weight": (4, 9),
    "positional_embedding": (5, 4),
    "proj": (4, 3),
    "resblocks.0.ln_1.bias": (4,),
    "conv1.weight": (3, 2, 2, 2),
}
LINEAR = ("resblocks.0.mlp.c_fc.weight", "resblocks.0.mlp.c_proj.weight")


def experts(N=3, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return [{k: (n + 1) * torch.randn(s, generator=g, dtype=torch.float64).to(dtype) for k, s in SHAPES.items()}
            for n in range(N)]  # fmt: skip


def inputs(N=3, seed=1, rows=12):
    """name -> X_n (rows * n, in) for each expert: unequal numbers of inputs of unequal strength."""
    g = torch.Generator().manual_seed(seed)
    return [
        {k: torch.randn((n + 1) * rows, SHAPES[k][1], generator=g, dtype=torch.float64) ** (n + 1) for k in LINEAR}
        for n in range(N)
    ]


def grams_of(xs):
    return [{k: x.mT @ x for k, x in X.items()} for X in xs]


def by_lstsq(matrices, xs):
    """argmin_X sum_n |(X - tau_n) x_n^T|^2, smallest norm first: what each layer answers, not a Gram in sight."""
    rows = torch.cat(list(xs))
    answers = torch.cat([x @ tau.mT for tau, x in zip(matrices, xs, strict=True)])
    return torch.from_numpy(np.linalg.lstsq(rows.numpy(), answers.numpy(), rcond=1e-10)[0]).mT


# ---------------------------------------------------------------------------- the shared solve


@pytest.mark.parametrize("rows", [12, 1], ids=["every direction seen", "fewer inputs than directions"])
def test_the_update_answers_the_inputs_like_the_experts(rows):
    taus, xs = experts(), inputs(rows=rows)
    tau_m = least_squares(taus, grams_of(xs))
    for key in LINEAR:
        expected = by_lstsq([tau[key] for tau in taus], [X[key] for X in xs])
        torch.testing.assert_close(tau_m[key], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("rest", "factor"), [("mean", 1 / 3), ("sum", 1.0), ("base", 0.0)])
def test_what_has_no_gram_is_the_mean_the_sum_or_the_base(rest, factor):
    taus = experts()
    tau_m = least_squares(taus, grams_of(inputs()), rest=rest)
    assert list(tau_m) == list(SHAPES)
    for key in SHAPES.keys() - set(LINEAR):
        torch.testing.assert_close(tau_m[key], factor * (taus[0][key] + taus[1][key] + taus[2][key]))


def test_equal_grams_give_the_mean_and_their_common_factor_is_without_effect():
    taus, (gram, *_) = experts(), grams_of(inputs())
    tau_m = least_squares(taus, [gram] * 3)
    for key in LINEAR:
        torch.testing.assert_close(tau_m[key], (taus[0][key] + taus[1][key] + taus[2][key]) / 3)
    scaled = [{k: 1e-6 * C for k, C in G.items()} for G in grams_of(inputs())]
    torch.testing.assert_close(least_squares(taus, scaled), least_squares(taus, grams_of(inputs())))


def test_twice_the_gram_is_twice_the_say():
    taus, (gram, *_) = experts(2), grams_of(inputs())
    tau_m = least_squares(taus, [gram, {k: 2 * C for k, C in gram.items()}])
    for key in LINEAR:
        torch.testing.assert_close(tau_m[key], (taus[0][key] + 2 * taus[1][key]) / 3)


def test_an_input_that_nobody_has_stays_pre_trained():
    gram = {LINEAR[0]: torch.diag(torch.tensor([2.0, 1.0, 0.0, 3.0]))}
    merged = least_squares(experts(2), [gram, gram])[LINEAR[0]]
    assert not merged[:, 2].any()
    assert merged[:, [0, 1, 3]].all()


@pytest.mark.parametrize("smallest", [1e-3, 1e-9, 1.5e-12])
def test_both_ways_to_divide_agree_with_a_solve(smallest):
    """1e-3 is Cholesky's, 1e-9 and 1.5e-12 are the eigenvectors'."""
    g = torch.Generator().manual_seed(0)
    Q = torch.linalg.qr(torch.randn(6, 6, generator=g, dtype=torch.float64)).Q
    c = torch.logspace(0, np.log10(smallest), 6, dtype=torch.float64)
    X = torch.randn(3, 6, generator=g, dtype=torch.float64)
    got = divide((X @ Q * c) @ Q.mT, (Q * c) @ Q.mT)
    torch.testing.assert_close(got, X, rtol=0, atol=1e-3)


UNITS = (1e-12, 1.0, 1e12)  # of the inputs, squared: limits are relative to the strongest direction


@pytest.mark.parametrize("unit", UNITS)
def test_a_direction_below_1e_12_of_the_strongest_is_absent(unit):
    C = unit * torch.diag(torch.tensor([1.0, 0.9e-12], dtype=torch.float64))
    got = divide(unit * torch.ones(1, 2).double(), C)
    torch.testing.assert_close(got, torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    assert not divide(torch.zeros(1, 2).double(), 0 * C).any()  # nobody has any input


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(("smallest", "asked"), [(1.1e-8, 0), (0.9e-8, 1)])
def test_eigenvectors_are_asked_for_where_cholesky_will_not_do(monkeypatch, unit, smallest, asked):
    calls, eigh = [], torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda C: calls.append(C) or eigh(C))
    C = unit * torch.diag(torch.tensor([1.0, smallest], dtype=torch.float64))
    torch.testing.assert_close(divide(C, C), torch.eye(2, dtype=torch.float64))
    assert len(calls) == asked


@pytest.mark.parametrize("unit", UNITS)
def test_one_negative_eigenvalue_is_refused_beyond_rounding(unit):
    B = torch.ones(1, 3, dtype=torch.float64)

    def gram(lowest):
        return unit * torch.diag(torch.tensor([1e-3, lowest, 1.0], dtype=torch.float64))

    assert divide(B, gram(-0.9e-6))[0, 1] == 0
    with pytest.raises(ValueError, match=r"got an eigenvalue of -1\.5e"):
        divide(B, gram(-1.5e-6))


@pytest.mark.parametrize("unit", UNITS)
def test_a_gram_may_be_asymmetric_by_rounding_only(unit):
    def merge(asymmetry):
        C = unit * (torch.ones(4, 4, dtype=torch.float64) + torch.eye(4))  # sum: 20 units
        C[0, 1] += unit * asymmetry * 20 / 2  # counts twice in C - C^T
        return least_squares(experts(1), [{LINEAR[0]: C}])

    merge(0.9e-4)
    with pytest.raises(ValueError, match="got a matrix that is not symmetric"):
        merge(1.1e-4)


def test_an_update_of_20_times_the_longest_expert_is_not_yet_said():
    warn_if_too_long(torch.tensor([[20.0]]), 1.0, "w", 2)  # a warning here is an error
    with pytest.warns(UserWarning, match="'w': the merged update is 21 times as long"):
        warn_if_too_long(torch.tensor([[10.5]]), 0.5, "w", 2)
    taus = [{"w": torch.tensor([row]).double()} for row in ([1.0, 0.0], [0.0, 0.0])]
    inputs = [torch.tensor([row]).double() for row in ([1.0, 1.0], [1.0, 1.01])]  # all but the same, and 1 or 0 wanted
    with pytest.warns(UserWarning, match="'w': the merged update is 142 times as long") as said:
        least_squares(taus, grams_of([{"w": x} for x in inputs]))
    assert said[0].filename == __file__, "the warning points at the call"


def test_grams_are_computed_when_asked_for_and_not_kept():
    asked = []
    taus = [{k: v for k, v in tau.items() if k in LINEAR} for tau in experts()]
    grams = stand_ins(taus, lambda tau: asked.append(tuple(tau.shape)) or tau.mT @ tau)
    assert asked == []
    least_squares(taus, grams)
    assert sorted(asked) == sorted([(9, 4), (4, 9)] * 3)
    with pytest.raises(KeyError):
        grams[0]["positional_embedding"]
    assert (len(grams[0]), list(grams[0])) == (2, list(LINEAR))


def test_computed_works_in_float64_whatever_the_file_holds():
    half = Computed({"w": torch.full((2, 2), 300.0, dtype=torch.float16)}, lambda tau: tau @ tau, ["w"])
    torch.testing.assert_close(half["w"], torch.full((2, 2), 180000.0, dtype=torch.float64))  # infinity in float16


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("transformer.resblocks.3.attn.in_proj_weight", True),
        ("transformer.resblocks.3.attn.out_proj.weight", True),
        ("vision_model.encoder.layers.0.self_attn.q_proj.weight", True),
        ("visual_projection.weight", True),
        ("visual.positional_embedding", False),
        ("vision_model.embeddings.position_embedding.weight", False),
        ("visual.proj", False),
        ("proj", False),
        ("text_projection", False),
    ],
)
def test_a_linear_weight_is_used_as_w_times_x(name, expected):
    assert linear_weight(name, torch.zeros(2, 3)) is expected


def test_what_is_wrong_with_grams_is_named():
    taus, grams, key = experts(), grams_of(inputs()), LINEAR[0]
    for bad, message in [
        (grams[:2], "grams: got Grams of 2 experts, expected a list of 3"),
        (grams[0], "grams: got one mapping, expected a list of 3"),
        ([*grams[:2], {key: grams[2][key]}], f"grams: got '{LINEAR[1]}' for expert 0 or 2 only"),
        ([G | {"w": grams[0][key]} for G in grams], "grams of expert 0: got 'w', expected names of the task vectors'"),
        ([G | {"conv1.weight": grams[0][key]} for G in grams], "'conv1.weight' has shape .* expected a matrix"),
        ([*grams[:2], grams[2] | {key: torch.eye(9)}], r"expert 2, key .*: got shape \(9, 9\), expected \(4, 4\)"),
        ([grams[0] | {key: grams[0][key] * torch.nan}, *grams[1:]], "expert 0, key .*: got NaN or infinity"),
        ([grams[0] | {key: torch.ones(4, 4).triu()}, *grams[1:]], "got a matrix that is not symmetric"),
        ([{key: -torch.eye(4)}] * 3, f"sum of the Grams, key '{key}': got an eigenvalue of -3"),
    ]:
        with pytest.raises(ValueError, match=message):
            least_squares(taus, bad)
    with pytest.raises(ValueError, match="rest: got 'zero', expected 'mean', 'sum' or 'base'"):
        least_squares(taus, grams, rest="zero")
    taus[1][key][0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"task vector 1, key .*NaN or infinite"):
        least_squares(taus, grams)


# ---------------------------------------------------------------------------- RegMean


def test_regmean_is_least_squares_on_whole_weights():
    """As the paper writes it: W_n = W_0 + tau_n, and W = argmin sum_n |W X_n^T - W_n X_n^T|^2."""
    taus, xs = experts(), inputs()
    g = torch.Generator().manual_seed(9)
    for key in LINEAR:
        W_0 = torch.randn(SHAPES[key], generator=g, dtype=torch.float64)
        W = by_lstsq([W_0 + tau[key] for tau in taus], [X[key] for X in xs])
        torch.testing.assert_close(W_0 + regmean(taus, grams_of(xs), off_diagonal=1.0)[key], W, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("a", [0.0, 0.35, 0.9])
def test_regmean_shrinks_what_lies_off_the_diagonal(a):
    taus, grams, key = experts(), grams_of(inputs()), LINEAR[1]
    shrunk = [{key: G[key] * (a + (1 - a) * torch.eye(9, dtype=torch.float64))} for G in grams]
    B = sum(tau[key] @ G[key] for tau, G in zip(taus, shrunk, strict=True))
    expected = torch.linalg.solve(sum(G[key] for G in shrunk), B.mT).mT
    torch.testing.assert_close(regmean(taus, grams, off_diagonal=a)[key], expected)
    if a == 0.9:
        torch.testing.assert_close(regmean(taus, grams)[key], expected)  # the default
    if a == 0:  # each input on its own: a weighted mean, column by column
        weight = torch.stack([G[key].diagonal() for G in grams])
        column = sum(w * tau[key] for w, tau in zip(weight, taus, strict=True)) / weight.sum(dim=0)
        torch.testing.assert_close(expected, column)


@pytest.mark.parametrize("a", [-0.1, 1.1, float("nan")])
def test_regmean_names_a_factor_outside_its_range(a):
    with pytest.raises(ValueError, match=r"off_diagonal: got .*, expected a factor in \[0, 1\]"):
        regmean(experts(), grams_of(inputs()), off_diagonal=a)


# ---------------------------------------------------------------------------- without data


def test_actmat_is_the_authors_two_lines():
    taus = experts()
    for key in LINEAR:
        d = torch.stack([tau[key] for tau in taus])
        c = d.mT @ d
        expected = (d @ c).sum(dim=0) @ torch.linalg.pinv(c.sum(dim=0), hermitian=True)
        torch.testing.assert_close(actmat(taus)[key], expected)


def test_actmat_is_regmean_on_the_rows_of_the_experts():
    taus = experts()
    rows = [{k: tau[k] for k in LINEAR} for tau in taus]
    torch.testing.assert_close(actmat(taus), regmean(taus, grams_of(rows), off_diagonal=1.0))


@pytest.mark.parametrize("merge", [actmat, tact])
def test_embeddings_and_projections_are_averaged_unless_asked_for(merge):
    taus = experts()
    for key in ("positional_embedding", "proj"):
        mean = (taus[0][key] + taus[1][key] + taus[2][key]) / 3
        torch.testing.assert_close(merge(taus)[key], mean)
        assert not torch.allclose(merge(taus, is_matrix=every_matrix)[key], mean)


def test_the_longer_expert_has_the_say_in_actmat_and_not_in_wudi():
    tau = {LINEAR[0]: experts(1)[0][LINEAR[0]]}
    long = {k: 3 * v for k, v in tau.items()}  # C is nine times as large
    torch.testing.assert_close(actmat([tau, long])[LINEAR[0]], (1 + 3 * 9) / 10 * tau[LINEAR[0]])
    torch.testing.assert_close(wudi_optimum([tau, long])[LINEAR[0]], 2 * tau[LINEAR[0]])


@pytest.mark.parametrize("scope", ["blocks", "matrices"])
def test_wudis_optimum_is_where_its_flow_ends(scope):
    taus = [*experts(), {k: torch.zeros(s, dtype=torch.float64) for k, s in SHAPES.items()}]
    torch.testing.assert_close(wudi_optimum(taus, scope=scope), wudi_flow(taus, scope=scope), rtol=1e-6, atol=1e-8)


def test_tact_asks_the_larger_half_and_merges_the_whole():
    taus = experts()
    for key in LINEAR:
        B, C = 0, 0
        for tau in taus:
            flat = tau[key].numpy().ravel()
            kept = np.zeros_like(flat)
            largest = np.argsort(-np.abs(flat))[:18]  # half of 36
            kept[largest] = flat[largest]
            kept = kept.reshape(tau[key].shape)
            B, C = B + tau[key].numpy() @ kept.T @ kept, C + kept.T @ kept
        torch.testing.assert_close(tact(taus)[key], torch.from_numpy(B @ np.linalg.pinv(C, hermitian=True)))


def test_tact_that_trims_nothing_is_actmat():
    torch.testing.assert_close(tact(experts(), density=1.0), actmat(experts()))
    assert not torch.allclose(tact(experts(), density=0.9)[LINEAR[0]], actmat(experts())[LINEAR[0]])


def test_tact_names_a_density_outside_its_range():
    with pytest.raises(ValueError, match="density: got 0, expected the fraction kept"):
        tact(experts(), density=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("merge", [actmat, tact, wudi_optimum])
def test_small_half_precision_experts_do_not_vanish(merge, dtype):
    """Entries of 1e-4 squared are 1e-8: nothing in float16, much in float64."""
    taus = [{k: (1e-4 * v).to(dtype) for k, v in tau.items()} for tau in experts()]
    merged = merge(taus)[LINEAR[0]]
    assert merged.dtype == dtype
    exact = merge([{k: v.double() for k, v in tau.items()} for tau in taus])[LINEAR[0]]
    torch.testing.assert_close(merged, exact.to(dtype))
    assert merged.any()


@pytest.mark.parametrize("merge", [actmat, wudi_optimum, wudi_flow])
def test_as_many_equations_as_inputs_is_said(merge):
    """`c_proj` of a transformer whose MLP is four times as wide: lost at four experts, not at three or five."""
    generator = torch.Generator().manual_seed(0)
    key = "transformer.resblocks.0.mlp.c_proj.weight"
    taus = [{key: torch.randn(40, 160, generator=generator, dtype=torch.float64)} for _ in range(5)]
    with pytest.warns(UserWarning, match=f"'{key}': .* 4 experts with 40 rows give 160 equations for 160 inputs"):
        four = merge(taus[:4])[key]
    assert four.norm() > 20 * taus[0][key].norm()
    small = [{k: 1e-3 * v for k, v in tau.items()} for tau in taus[:4]]
    with pytest.warns(UserWarning, match="times as long as the longest expert's"):  # whatever the unit of weights is
        merge(small)
    for N in (3, 5):  # a warning here is an error
        assert merge(taus[:N])[key].norm() < 10 * taus[0][key].norm()
    assert wudi_flow(taus[:4], time=100)[key].norm() < 10 * taus[0][key].norm()


def test_one_expert_and_experts_of_zeros():
    [tau], [X] = experts(1), inputs(1)
    merged = least_squares([tau], grams_of([X]))
    torch.testing.assert_close(merged[LINEAR[0]], tau[LINEAR[0]])
    zeros = [{k: torch.zeros_like(v) for k, v in tau.items()}] * 2
    assert not any(v.any() for v in least_squares(zeros, grams_of([X, X])).values())
