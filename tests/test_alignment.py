"""Permutations and matching against brute force, and task vectors carried to a copy."""

from itertools import permutations, product

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from small_networks import answer, close, mlp, noisy, seeded, small_tower

from samerge_edu.alignment.axes import chain_axes, identity, inverse, permute, shuffled, vit_axes
from samerge_edu.alignment.rebasin import as_matrices, carry, head_order, rebasin, shared_embedding, turned
from samerge_edu.alignment.weight_matching import assign, assign_heads, gains, matched, similarity, weight_matching
from samerge_edu.params import add, task_vectors
from samerge_edu.suites import load_suite


@pytest.fixture(scope="module")
def suite():
    return load_suite("pocket")


@pytest.fixture(scope="module")
def tower(suite):
    theta = dict(suite.theta_0)
    return theta, vit_axes(theta, suite.attention_heads)


@pytest.fixture(scope="module")
def tiny():
    return small_tower()


# ---------------------------------------------------------------------------- permute


def test_permute_by_hand():
    theta = {
        "0.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        "0.bias": torch.tensor([7.0, 8.0, 9.0]),
        "2.weight": torch.tensor([[10.0, 20.0, 30.0]]),
    }
    new = permute(theta, {"hidden.1": torch.tensor([2, 0, 1])}, chain_axes(theta))
    assert new["0.weight"].tolist() == [[5, 6], [1, 2], [3, 4]]
    assert new["0.bias"].tolist() == [9, 7, 8]
    assert new["2.weight"].tolist() == [[30, 10, 20]]


def test_a_permuted_mlp_is_the_same_function():
    theta = mlp(3, 6, 5, 4)
    axes = chain_axes(theta)
    x = torch.randn(7, 3, generator=seeded(1))
    other = permute(theta, shuffled(theta, axes, seeded()), axes)
    assert not close(theta, other)
    torch.testing.assert_close(answer(other, x), answer(theta, x))


def test_a_permuted_pocket_tower_is_the_same_function(suite, tower):
    theta, axes = tower
    other = permute(theta, shuffled(theta, axes, seeded()), axes)
    images = torch.cat([suite.images(task, "val", 5)[0] for task in (*suite.id_tasks, *suite.ood_tasks)])
    assert sum(not torch.equal(theta[k], other[k]) for k in theta) == len(theta), "every tensor has moved"
    assert (suite.encode(theta, images) - suite.encode(other, images)).abs().max() < 1e-5


def test_every_single_order_of_a_vit_is_free(tiny):
    """One name at a time (a pair for attention), so that no mistake of one hides behind another's."""
    theta, axes, forward = tiny
    x = torch.randn(3, 3, 8, 8, generator=seeded(1))
    before, drawn = forward(theta, x), shuffled(theta, axes, seeded(2))
    partner = {name: pair for pair in axes.heads for name in pair}
    for name in drawn:
        names = partner.get(name, (name,))
        other = permute(theta, identity(theta, axes) | {n: drawn[n] for n in names}, axes)
        torch.testing.assert_close(forward(other, x), before, atol=1e-5, rtol=1e-5)


def test_one_head_is_enough_and_any_order_of_its_units_is_free(tiny):
    theta, _, _ = tiny
    axes = vit_axes(theta, 1)
    P = identity(theta, axes) | {"blocks.0.qk": torch.tensor([4, 1, 2, 3, 0, 5, 6, 7])}
    assert torch.equal(permute(theta, P, axes)["proj"], theta["proj"])


def test_a_key_moves_with_its_query(tiny):
    """The bias of a key changes nothing (soft-max), so that the function would not tell; matching would."""
    theta, axes, _ = tiny
    P = shuffled(theta, axes, seeded(2))
    q, k, v = permute(theta, P, axes)["transformer.resblocks.0.attn.in_proj_bias"].chunk(3)
    old_q, old_k, old_v = theta["transformer.resblocks.0.attn.in_proj_bias"].chunk(3)
    assert torch.equal(q, old_q[P["blocks.0.qk"]])
    assert torch.equal(k, old_k[P["blocks.0.qk"]])
    assert torch.equal(v, old_v[P["blocks.0.vo"]])


def test_inverse_undoes(tower):
    theta, axes = tower
    P = shuffled(theta, axes, seeded())
    assert close(permute(permute(theta, P, axes), inverse(P), axes), theta, atol=0)


# ---------------------------------------------------------------------------- weight matching


def inner(a, b):
    return sum((a[k].double() * b[k].double()).sum().item() for k in a)


@pytest.mark.parametrize("units", [4, 5, 6])
def test_one_hidden_layer_is_solved_as_by_brute_force(units):
    a, b = mlp(3, units, 2, seed=1), mlp(3, units, 2, seed=4)
    axes = chain_axes(a)
    best = max(
        inner(a, permute(b, {"hidden.1": torch.tensor(P)}, axes)) for P in permutations(range(units))
    )  # all of them
    found = weight_matching(a, b, axes, generator=seeded())
    assert inner(a, permute(b, found, axes)) == pytest.approx(best)
    assert best > inner(a, b) + 0.1, "there was something to find"


def test_no_single_layer_of_three_can_be_better():
    """What the search ends with is the brute-force optimum of each layer with the others fixed."""
    a, b = mlp(3, 5, 4, 5, 2, seed=1), mlp(3, 5, 4, 5, 2, seed=2)
    axes = chain_axes(a)
    found = weight_matching(a, b, axes, generator=seeded())
    value = inner(a, permute(b, found, axes))
    for name, P in found.items():
        for other in permutations(range(len(P))):
            assert inner(a, permute(b, found | {name: torch.tensor(other)}, axes)) <= value + 1e-9


def test_heads_are_matched_as_by_brute_force(tiny):
    theta, axes, _ = tiny
    swapped = {name: torch.arange(8).roll(4) for pair in axes.heads for name in pair}
    other = noisy(permute(theta, identity(theta, axes) | swapped, axes), 3.0)
    start = identity(theta, axes)
    C_qk, C_vo = (gains(theta, other, f"blocks.0.{part}", start, axes) for part in ("qk", "vo"))
    value = {
        part: {p: C[torch.arange(8), list(p)].sum().item() for p in permutations(range(8))}
        for part, C in (("qk", C_qk), ("vo", C_vo))
    }
    best = -torch.inf
    inside = list(product(permutations(range(4)), repeat=2))
    for heads in ((0, 1), (1, 0)):
        whole = [tuple(4 * h + i for h, p in zip(heads, ps, strict=True) for i in p) for ps in inside]
        best = max(best, max(value["qk"][p] for p in whole) + max(value["vo"][p] for p in whole))
    found = assign_heads(C_qk, C_vo, heads=2)
    got = sum(C[torch.arange(8), P].sum().item() for C, P in ((C_qk, found[0]), (C_vo, found[1])))
    assert got == pytest.approx(best)
    assert [int(P[0]) // 4 for P in found] == [1, 1], "the heads have changed places"
    free = max(value["qk"].values()) + max(value["vo"].values())
    assert free > best + 1e-6, "torn heads would be worth more: the constraint binds"


def test_gains_are_what_a_swap_is_worth(tiny):
    """C against the sum of inner products, for every name: one tensor forgotten is one test red."""
    theta, axes, _ = tiny
    other = noisy(theta, 1.0)
    P = shuffled(theta, axes, seeded(6))
    partner = {name: pair for pair in axes.heads for name in pair}
    for name in P:
        C = gains(theta, other, name, P, axes)
        another = shuffled(theta, axes, seeded(7))
        names = partner.get(name, (name,))
        Q = P | {n: another[n] for n in names}
        worth = inner(theta, permute(other, Q, axes)) - inner(theta, permute(other, P, axes))
        by_C = 0.0
        for n in names:
            C = gains(theta, other, n, P, axes)
            by_C += (C[torch.arange(len(C)), Q[n]].sum() - C[torch.arange(len(C)), P[n]].sum()).item()
        assert by_C == pytest.approx(worth, abs=1e-4)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_permuted_mlp_is_matched_back_exactly(noise):
    theta = mlp(10, 32, 24, 16, 5)
    axes = chain_axes(theta)
    P = shuffled(theta, axes, seeded(1))
    copy = noisy(permute(theta, P, axes), noise) if noise else permute(theta, P, axes)
    found = weight_matching(theta, copy, axes, generator=seeded(2))
    assert all(torch.equal(found[name], inverse(P)[name]) for name in P)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_a_permuted_pocket_tower_is_matched_back_exactly(tower, noise):
    """Up to noise as large as the weights themselves: a ViT has many of them for each unit."""
    theta, axes = tower
    P = shuffled(theta, axes, seeded(1))
    copy = noisy(permute(theta, P, axes), noise) if noise else permute(theta, P, axes)
    found = weight_matching(theta, copy, axes, generator=seeded(2))
    assert all(torch.equal(found[name], inverse(P)[name]) for name in P)
    if not noise:
        assert close(matched(theta, copy, axes, generator=seeded(3)), theta, atol=0)
        assert similarity(theta, permute(copy, found, axes)) == pytest.approx(1)


def test_matching_improves_and_repeats_itself_and_changes_nothing(tiny):
    theta, axes, _ = tiny
    other = noisy(theta, 3.0)
    before = {k: v.clone() for k, v in other.items()}
    found, again = (weight_matching(theta, other, axes, generator=seeded(1)) for _ in range(2))
    assert all(torch.equal(found[name], again[name]) for name in found)
    assert similarity(theta, permute(other, found, axes)) > similarity(theta, other)
    assert close(before, other, atol=0)
    unmoved = weight_matching(theta, theta, axes, generator=seeded(1), begin=identity(theta, axes))
    assert all(torch.equal(P, torch.arange(len(P))) for P in unmoved.values()), "of equal orders the old one stays"


def test_a_later_start_is_taken_up(tiny):
    theta, axes, _ = tiny
    P = shuffled(theta, axes, seeded(1))
    found = weight_matching(theta, permute(theta, P, axes), axes, generator=seeded(), begin=inverse(P), sweeps=1)
    assert all(torch.equal(found[name], inverse(P)[name]) for name in P)


def test_matching_stops_when_nothing_moves(tiny):
    """One sweep finds that all is in place: one order of the groups is drawn, not a hundred."""
    theta, axes, _ = tiny
    lots, once = seeded(5), seeded(5)
    weight_matching(theta, theta, axes, generator=lots)
    torch.randperm(len(axes.places(theta)) - len(axes.heads), generator=once)
    assert torch.equal(lots.get_state(), once.get_state())


def test_a_start_that_is_no_permutation_is_refused(tiny):
    theta, axes, _ = tiny
    begin = identity(theta, axes) | {"residual": torch.zeros(8, dtype=torch.int64)}
    with pytest.raises(ValueError, match=r"'residual': got \(8,\) indices, expected each of 0 .. 7 once"):
        weight_matching(theta, theta, axes, generator=seeded(), begin=begin)


def test_similarity_is_the_cosine_of_all_entries_in_one_vector():
    a, b = mlp(3, 5, 2, seed=1), mlp(3, 5, 2, seed=2)
    x, y = (torch.cat([v.flatten() for v in theta.values()]) for theta in (a, b))
    assert similarity(a, b) == pytest.approx(torch.cosine_similarity(x, y, dim=0).item(), rel=1e-5)
    assert similarity(a, {k: -2 * v for k, v in a.items()}) == pytest.approx(-1)


def test_assign_is_scipys():
    C = torch.randn(7, 7, generator=seeded())
    assert np.array_equal(assign(C).numpy(), linear_sum_assignment(-C.numpy())[1])


# ---------------------------------------------------------------------------- what is refused


def test_refused_widths_depths_heads_nan(tower, tiny):
    a = mlp(3, 5, 2)
    axes = chain_axes(a)
    with pytest.raises(ValueError, match=r"model 1, key '0.weight': got shape \(6, 3\), expected \(5, 3\)"):
        weight_matching(a, mlp(3, 6, 2), axes, generator=seeded())
    with pytest.raises(ValueError, match=r"model 1: extra key '4.bias'"):
        weight_matching(a, mlp(3, 5, 2, 2), axes, generator=seeded())
    with pytest.raises(ValueError, match=r"missing key '4.weight'"):
        weight_matching(a, mlp(3, 5, 2, seed=1), chain_axes(mlp(3, 5, 2, 2)), generator=seeded())
    with pytest.raises(ValueError, match=r"key '2.bias': got 1 entries that are NaN"):
        weight_matching(a, a | {"2.bias": torch.tensor([0.0, torch.nan])}, axes, generator=seeded())
    with pytest.raises(ValueError, match="sweeps: got 0"):
        weight_matching(a, a, axes, generator=seeded(), sweeps=0)
    theta, _ = tower
    with pytest.raises(ValueError, match=r"heads: got 7, expected a divisor of the width 160 of 'blocks.0.qk'"):
        vit_axes(theta, 7)
    with pytest.raises(ValueError, match="heads: got 0"):
        vit_axes(theta, 0)
    small = {k: v for k, v in theta.items() if "resblocks.4" not in k}
    with pytest.raises(ValueError, match=r"missing key 'transformer.resblocks.4"):
        permute(small, identity(theta, vit_axes(theta, 5)), vit_axes(theta, 5))
    with pytest.raises(ValueError, match="unknown key 'logit_scale'"):
        vit_axes(theta | {"logit_scale": torch.ones(())}, 5)
    with pytest.raises(ValueError, match=r"'proj': got 80 entries along axis 0, expected 160: 'residual' has 160"):
        vit_axes(theta | {"proj": theta["proj"][:80]}, 5)
    bias = "transformer.resblocks.0.attn.in_proj_bias"
    with pytest.raises(ValueError, match=rf"'{bias}': got 481 entries along axis 0, expected 480"):
        vit_axes(theta | {bias: torch.zeros(481)}, 5)  # a third of it and one
    with pytest.raises(ValueError, match=r"'proj': got shape \(160,\), expected 2 axes"):
        vit_axes(theta | {"proj": theta["proj"][:, 0]}, 5)


def test_refused_chains():
    with pytest.raises(ValueError, match=r"'2.weight': got 4 inputs, expected 5, as the layer before it gives"):
        chain_axes(mlp(3, 5, 2) | {"2.weight": torch.zeros(2, 4)})
    for name, tensor in (("norm", torch.zeros(3)), ("norm.weight", torch.zeros(3)), ("proj", torch.zeros(3, 3))):
        with pytest.raises(ValueError, match=rf"'{name}': got shape \(3,.*\), expected weights"):
            chain_axes(mlp(3, 5, 2) | {name: tensor})
    with pytest.raises(ValueError, match=r"'0.bias': got shape \(4,\), expected \(5,\)"):
        chain_axes(mlp(3, 5, 2) | {"0.bias": torch.zeros(4)})


def test_refused_permutations(tiny):
    theta, axes, _ = tiny
    P = identity(theta, axes)
    with pytest.raises(ValueError, match="'residual' is missing"):
        permute(theta, {k: v for k, v in P.items() if k != "residual"}, axes)
    with pytest.raises(ValueError, match="'hidden' is unknown"):
        permute(theta, P | {"hidden": torch.arange(8)}, axes)
    with pytest.raises(ValueError, match=r"'residual': got \(8,\) indices, expected each of 0 .. 7 once"):
        permute(theta, P | {"residual": torch.zeros(8, dtype=torch.int64)}, axes)
    torn = torch.tensor([4, 1, 2, 3, 0, 5, 6, 7])
    with pytest.raises(ValueError, match=r"'blocks.1.qk': a head is torn apart, expected whole heads of 4 units"):
        permute(theta, P | {"blocks.1.qk": torn}, axes)
    with pytest.raises(
        ValueError, match=r"'blocks.0.qk' has the heads in the order \[1, 0\], 'blocks.0.vo' in \[0, 1\]"
    ):
        permute(theta, P | {"blocks.0.qk": torch.arange(8).roll(4)}, axes)


# ---------------------------------------------------------------------------- task vectors for another base


def rotated_heads(theta, axes, seed=0):
    """The same function with q, k and v, out rotated inside each head."""
    g, maps = seeded(seed), as_matrices(identity(theta, axes))
    for pair, heads in axes.heads.items():
        for name in pair:
            d = len(maps[name]) // heads
            turns = [torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64)).Q for _ in range(heads)]
            maps[name] = torch.block_diag(*turns)
    return carry(theta, maps, axes)


def test_carry_by_a_permutation_is_permute(tower):
    theta, axes = tower
    P = shuffled(theta, axes, seeded())
    assert close(carry(theta, as_matrices(P), axes), permute(theta, P, axes), atol=0)


def test_rotations_inside_heads_keep_the_function(tiny):
    theta, axes, forward = tiny
    x = torch.randn(3, 3, 8, 8, generator=seeded(1))
    turned_heads = rotated_heads(theta, axes)
    assert not close(turned_heads, theta, atol=0.1)
    torch.testing.assert_close(forward(turned_heads, x), forward(theta, x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("inside", ["permutation", "orthogonal"])
def test_a_task_vector_is_carried_to_a_permuted_base_exactly(suite, tower, inside):
    theta, axes = tower
    tau = task_vectors(theta, [dict(suite.experts["digits"])])[0]
    P = shuffled(theta, axes, seeded(1))
    release = permute(theta, P, axes)
    moved = carry(tau, rebasin(theta, release, axes, generator=seeded(2), inside=inside), axes)
    assert close(moved, permute(tau, P, axes), atol=1e-5)


def test_rotated_heads_need_a_rotation(suite, tower):
    """Heads that were permuted *and* rotated: a permutation inside them finds some of it, Procrustes all."""
    theta, axes = tower
    tau = task_vectors(theta, [dict(suite.experts["digits"])])[0]
    release = rotated_heads(permute(theta, shuffled(theta, axes, seeded(1)), axes), axes)
    expected = rotated_heads(permute(tau, shuffled(tau, axes, seeded(1)), axes), axes)
    by = {
        inside: carry(tau, rebasin(theta, release, axes, generator=seeded(2), inside=inside), axes)
        for inside in ("permutation", "orthogonal")
    }
    assert close(by["orthogonal"], expected, atol=1e-4)
    assert similarity(by["permutation"], expected) < 0.99


def test_heads_are_paired_by_what_no_rotation_changes(tiny):
    theta, axes, _ = tiny
    swapped = {name: torch.arange(8).roll(4) for pair in axes.heads for name in pair if "blocks.1" in name}
    release = rotated_heads(permute(theta, identity(theta, axes) | swapped, axes), axes)
    order = head_order(release, theta, axes)
    assert order == {("blocks.0.qk", "blocks.0.vo"): [0, 1], ("blocks.1.qk", "blocks.1.vo"): [1, 0]}


def test_only_matrices_pair_the_heads(tiny):
    """A loud bias says nothing about a head: its singular value is no fingerprint."""
    theta, axes, _ = tiny
    key = "transformer.resblocks.0.attn.in_proj_bias"
    loud = theta | {key: theta[key] + 50 * (torch.arange(24) % 8 < 4)}  # the first head's
    moved = theta | {key: theta[key] + 50 * (torch.arange(24) % 8 >= 4)}
    assert head_order(loud, moved, axes)["blocks.0.qk", "blocks.0.vo"] == [0, 1]


def test_a_given_head_order_is_kept(tiny):
    theta, axes, _ = tiny
    order = {pair: [1, 0] for pair in axes.heads}
    found = weight_matching(theta, theta, axes, generator=seeded(), head_order=order)
    assert all((found[name] // 4).tolist() == [1] * 4 + [0] * 4 for pair in axes.heads for name in pair)


def test_an_embedding_is_turned_into_another(suite):
    texts = suite.read([f"a {word} object" for word in suite.tasks["object_colours"].classes])
    Q = torch.linalg.qr(torch.randn(128, 128, generator=seeded())).Q
    found = shared_embedding(texts, texts @ Q)
    torch.testing.assert_close(texts @ found, texts @ Q, atol=1e-5, rtol=1e-5)
    every = torch.randn(300, 128, generator=seeded(1))
    torch.testing.assert_close(shared_embedding(every, every @ Q), Q, atol=1e-4, rtol=1e-4)
    images = suite.images("flags", "val", 4)[0]
    z = suite.encode(turned(suite.theta_0, Q), images)
    torch.testing.assert_close(z, suite.encode(suite.theta_0, images) @ Q, atol=1e-5, rtol=1e-5)


def test_rebasin_refused(tiny):
    theta, axes, _ = tiny
    with pytest.raises(ValueError, match="inside: got 'rotation', expected 'permutation' or 'orthogonal'"):
        rebasin(theta, theta, axes, generator=seeded(), inside="rotation")
    with pytest.raises(ValueError, match=r"base 1, key 'proj': got shape \(8, 4\), expected \(8, 5\)"):
        rebasin(theta, theta | {"proj": theta["proj"][:, :4]}, axes, generator=seeded())
    with pytest.raises(ValueError, match="base 1, key 'proj': got 40 entries that are NaN"):
        rebasin(theta, theta | {"proj": theta["proj"] * torch.nan}, axes, generator=seeded())
    maps = as_matrices(identity(theta, axes))
    with pytest.raises(ValueError, match="'residual' is missing from the maps"):
        carry(theta, {k: v for k, v in maps.items() if k != "residual"}, axes)
    with pytest.raises(ValueError, match=r"'residual': got a map of shape \(3, 3\), expected \(8, 8\)"):
        carry(theta, maps | {"residual": torch.eye(3)}, axes)
    with pytest.raises(ValueError, match=r"texts: got \(3, 2\) and \(4, 2\)"):
        shared_embedding(torch.ones(3, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match="texts: got NaN"):
        shared_embedding(torch.ones(3, 2), torch.ones(3, 2) * torch.nan)


def test_the_sum_on_the_permuted_base_is_the_expert(suite, tower):
    """The whole recipe, to the accuracy's last image."""
    theta, axes = tower
    expert = dict(suite.experts["signs"])
    tau = task_vectors(theta, [expert])[0]
    release = permute(theta, shuffled(theta, axes, seeded(1)), axes)
    carried = carry(tau, rebasin(theta, release, axes, generator=seeded()), axes)
    images = suite.images("signs", "val", 20)[0]
    again = suite.encode(add(release, carried), images)
    torch.testing.assert_close(again, suite.encode(expert, images), atol=1e-5, rtol=1e-5)
