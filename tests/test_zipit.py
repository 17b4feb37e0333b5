"""ZipIt!'s matrices by hand, its groups against a plain loop, and networks zipped with a permuted copy."""

import numpy as np
import pytest
import torch
from small_networks import answer, mlp, seeded, small_tower

from samerge_edu.alignment.axes import chain_axes, identity, permute, shuffled
from samerge_edu.alignment.zipit import chain_features, correlation, match, zip_mlps, zipit


@pytest.fixture(scope="module")
def tiny():
    return small_tower()


def test_pairs_by_hand():
    """a0 ~ b1, a1 ~ b0."""
    f_a = torch.randn(50, 2, generator=seeded())
    M, U = match(f_a, f_a.flip(1) + 0.1 * torch.randn(50, 2, generator=seeded(1)))
    assert U.tolist() == [[1, 0], [0, 1], [0, 1], [1, 0]]
    torch.testing.assert_close(M, U.T / 2)


def test_merges_within_a_model_where_it_has_a_feature_twice():
    """A has each feature twice, B four of its own: A's pairs go together, and only as far as beta allows."""
    g = seeded(2)
    twice = torch.randn(200, 2, generator=g)
    f_a = torch.cat([twice, twice + 0.01 * torch.randn(200, 2, generator=g)], dim=1)
    f_b = torch.randn(200, 4, generator=g)
    _, U = match(f_a, f_b, beta=1.0)
    assert U[0].tolist() == U[2].tolist()
    assert U[1].tolist() == U[3].tolist()
    _, one = match(f_a, f_b, beta=0.5)  # a budget of one
    assert [torch.equal(one[0], one[2]), torch.equal(one[1], one[3])].count(True) == 1
    _, none = match(f_a, f_b, beta=0.0)
    assert (none[:4].sum(dim=0) == 1).all()
    assert (none[4:].sum(dim=0) == 1).all()


def greedy(S, n, alpha, budget):
    """The published loop in plain Python, on lists of groups: what has been closed poisons every group it enters."""
    groups, origin = [[i] for i in range(2 * n)], [i // n for i in range(2 * n)]
    S = {(i, j): S[i, j].item() for i in range(2 * n) for j in range(i)}
    budget, alive = [budget, budget], list(range(2 * n))
    for _ in range(n):
        for i, j in S:
            if origin[i] == origin[j] and budget[origin[i]] <= 0:
                S[i, j] = -torch.inf
        _, i, j = max((S[i, j], -j, -i) for i in alive for j in alive if j < i)
        i, j = -i, -j
        budget[origin[i]] -= origin[i] == origin[j]
        groups[i] += groups[j]
        alive.remove(j)
        for k in alive:
            if k != i:
                low = min(S[max(i, k), min(i, k)], S[max(j, k), min(j, k)])
                S[max(i, k), min(i, k)] = alpha * low if low > 0 else low
    return {frozenset(groups[i]) for i in alive}


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.125), (1.0, 1.0), (0.7, 0.5), (0.1, 0.0)])
def test_groups_are_those_of_a_plain_loop(alpha, beta):
    n = 16
    mix = torch.randn(10, 2 * n, generator=seeded(3))
    f = torch.randn(300, 10, generator=seeded(4)) @ mix
    M, U = match(f[:, :n], f[:, n:], alpha=alpha, beta=beta)
    expected = greedy(correlation(f), n, alpha, int(n // 2 * beta))
    assert {frozenset(U[:, c].nonzero().flatten().tolist()) for c in range(n)} == expected
    assert any(len(group) > 2 for group in expected) == (alpha >= 0.3), "the two cases differ"
    torch.testing.assert_close(M @ U, torch.eye(n))
    assert (U.sum(dim=1) == 1).all()


def test_alpha_0_makes_pairs_only():
    """Six units that are nearly one, and six that are nothing to each other: a group is never worth a third unit."""
    one = torch.randn(200, 1, generator=seeded(5)) + 0.01 * torch.randn(200, 6, generator=seeded(6))
    f = torch.cat([one, torch.randn(200, 6, generator=seeded(7))], dim=1)[:, torch.randperm(12, generator=seeded(8))]
    _, U = match(f[:, :6], f[:, 6:], alpha=0.0, beta=1.0)
    assert U.sum(dim=0).tolist() == [2] * 6
    _, U = match(f[:, :6], f[:, 6:], alpha=1.0, beta=1.0)
    assert U.sum(dim=0).max() == 6, "and freely all six are one"


def test_alpha_0_pairs_opposites_before_it_makes_a_group_of_three():
    """a0 and b0 are one; what is left is a unit and its negative, of correlation -1 but for rounding."""
    for seed in range(5):
        x, y = torch.randn(2, 50, generator=seeded(seed))
        _, U = match(torch.stack([x, y], dim=1), torch.stack([x, -y], dim=1), alpha=0.0, beta=1.0)
        assert U.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]


def test_correlation_is_numpys():
    f = torch.randn(20, 4, generator=seeded())
    np.testing.assert_allclose(correlation(f), np.corrcoef(f.numpy().T), atol=1e-6)
    assert not correlation(torch.cat([f, torch.ones(20, 1)], dim=1))[-1, :-1].any()


def test_a_network_zipped_with_a_permuted_copy_is_itself():
    theta = mlp(4, 8, 6, 3)
    axes = chain_axes(theta)
    copy = permute(theta, shuffled(theta, axes, seeded(1)), axes)
    x = torch.randn(100, 4, generator=seeded(2))
    f_a, f_b = chain_features(theta, x), chain_features(copy, x)
    zipped = zipit(theta, copy, f_a, f_b, beta=0.0)
    assert zipped.heads == ({}, {})
    torch.testing.assert_close(chain_features(zipped.trunk, x)["output"], f_a["output"], atol=1e-5, rtol=1e-5)


def test_a_partial_zip_keeps_two_heads(tiny):
    """Of the same network twice each head answers as it did, wherever the zip stops."""
    theta = mlp(4, 8, 6, 3)
    axes = chain_axes(theta)
    copy = permute(theta, shuffled(theta, axes, seeded(1)), axes)
    copy["4.bias"] = copy["4.bias"] + 1  # the last layer stays each one's own
    x = torch.randn(100, 4, generator=seeded(2))
    f_a, f_b = chain_features(theta, x), chain_features(copy, x)
    for layers in (1, 2):
        trunk, heads = (zipped := zipit(theta, copy, f_a, f_b, layers=layers, beta=0.0)).trunk, zipped.heads
        assert len(trunk) == 2 * layers
        for head, f in zip(heads, (f_a, f_b), strict=True):
            torch.testing.assert_close(chain_features(trunk | head, x)["output"], f["output"], atol=1e-5, rtol=1e-5)


def test_a_chain_of_one_layer_is_the_mean():
    a, b = mlp(4, 3, seed=1), mlp(4, 3, seed=2)
    trunk = zipit(a, b, {}, {}).trunk
    for key in a:
        torch.testing.assert_close(trunk[key], (a[key] + b[key]) / 2)


def test_mlp_blocks_of_two_equal_towers_zip_to_the_same_function(tiny):
    theta, axes, forward = tiny
    P = identity(theta, axes)
    drawn = shuffled(theta, axes, seeded(1))
    copy = permute(theta, P | {name: drawn[name] for name in P if name.endswith("mlp")}, axes)
    g = seeded(2)
    f_a = {f"blocks.{i}.mlp": torch.randn(60, 12, generator=g) for i in (0, 1)}
    f_b = {name: f[:, drawn[name]] for name, f in f_a.items()}
    x = torch.randn(3, 3, 8, 8, generator=seeded(1))
    zipped = zip_mlps(theta, copy, f_a, f_b, axes, beta=0.0)
    torch.testing.assert_close(forward(zipped, x), forward(theta, x), atol=1e-5, rtol=1e-5)


def test_features_are_what_the_layers_say():
    theta, x = mlp(4, 8, 6, 3), torch.randn(9, 4, generator=seeded(2))
    found = chain_features(theta, x)
    assert list(found) == ["hidden.1", "hidden.2", "output"]
    first = x @ theta["0.weight"].T + theta["0.bias"]
    torch.testing.assert_close(found["hidden.1"], first.relu())
    torch.testing.assert_close(found["output"], answer(theta, x))
    torch.testing.assert_close(chain_features(theta, x, torch.tanh)["hidden.1"], first.tanh())


def test_zip_refused():
    a, f = mlp(3, 5, 2), {"hidden.1": torch.randn(9, 5, generator=seeded())}
    with pytest.raises(ValueError, match=r"model 1, key '0.weight': got shape \(6, 3\)"):
        zipit(a, mlp(3, 6, 2), f, f)
    with pytest.raises(ValueError, match=r"layers: got 3, expected 1 .. 2"):
        zipit(a, a, f, f, layers=3)
    with pytest.raises(ValueError, match=r"features: missing 'hidden.1', got none"):
        zipit(a, a, f, {})
    with pytest.raises(ValueError, match=r"features 'hidden.1': got shape \(9, 4\), expected \(samples, 5\)"):
        zipit(a, a, f, {"hidden.1": f["hidden.1"][:, :4]})
    with pytest.raises(ValueError, match="features: got NaN"):
        zipit(a, a, f, {"hidden.1": f["hidden.1"] * torch.nan})
    with pytest.raises(ValueError, match=r"key '0.bias': got 5 entries that are NaN"):
        zipit(a, a | {"0.bias": a["0.bias"] * torch.nan}, f, f)
    with pytest.raises(ValueError, match=r"got \(1, 5\) and \(1, 5\), expected \(samples >= 2, n\) twice"):
        match(f["hidden.1"][:1], f["hidden.1"][:1])
    assert match(f["hidden.1"][:2], f["hidden.1"][:2])[1].shape == (10, 5), "two samples are enough"
    for knob in ("alpha", "beta"):
        assert match(f["hidden.1"], f["hidden.1"], **{knob: 1})[1].shape == (10, 5), "1 is the end of the range"
        with pytest.raises(ValueError, match=rf"{knob}: got 1.5, expected a number in \[0, 1\]"):
            match(f["hidden.1"], f["hidden.1"], **{knob: 1.5})


def test_zip_mlps_refused(tiny):
    theta, axes, _ = tiny
    f = {f"blocks.{i}.mlp": torch.randn(9, 12, generator=seeded()) for i in (0, 1)}
    with pytest.raises(ValueError, match=r"model 1, key 'proj': got 40 entries that are NaN"):
        zip_mlps(theta, theta | {"proj": theta["proj"] * torch.nan}, f, f, axes)
    with pytest.raises(ValueError, match=r"model 1, key 'proj': got shape \(8, 4\), expected \(8, 5\)"):
        zip_mlps(theta, theta | {"proj": theta["proj"][:, :4]}, f, f, axes)
    with pytest.raises(ValueError, match=r"features: missing 'blocks.1.mlp', got blocks.0.mlp"):
        zip_mlps(theta, theta, f, {"blocks.0.mlp": f["blocks.0.mlp"]}, axes)
