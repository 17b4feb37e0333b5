"""Greedy soups, SeWA and ACM: by every subset, by hand, limits and bad input."""

from itertools import combinations

import numpy as np
import pytest
import torch

from samerge_edu.merges.acm import acm, mutual_information
from samerge_edu.merges.average import average
from samerge_edu.merges.sewa import sewa
from samerge_edu.merges.soups import greedy_soup
from samerge_edu.merges.task_arithmetic import task_arithmetic


def runs(values=(0.0, 3.0, 9.0, 2.5)):
    return [{"w": torch.tensor([v, -v], dtype=torch.float64), "b": torch.tensor(v).double()} for v in values]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------------------- greedy soup


def by_hand(taus, score):
    order = sorted(range(len(taus)), key=lambda n: (-score(taus[n]), n))
    soup = [order[0]]
    for n in order[1:]:
        if score(average([taus[i] for i in [*soup, n]])) > score(average([taus[i] for i in soup])):
            soup.append(n)
    return average([taus[i] for i in soup])


@pytest.mark.parametrize("target", [-1.0, 1.0, 2.0, 2.7, 4.0, 8.0])
def test_greedy_soup_is_the_paper_s_recipe(target):
    def score(tau):
        return -abs(tau["b"].item() - target)

    taus = runs()
    soup = greedy_soup(taus, score)
    torch.testing.assert_close(soup, by_hand(taus, score))
    assert score(soup) >= max(score(tau) for tau in taus)
    subsets = [average(list(c)) for k in range(1, 5) for c in combinations(taus, k)]
    assert score(soup) <= max(score(tau) for tau in subsets)
    torch.testing.assert_close(greedy_soup(taus[::-1], score), soup)


def test_a_run_that_changes_nothing_is_left_out_and_equal_runs_keep_their_order():
    torch.testing.assert_close(greedy_soup(runs(), lambda tau: 1.0), runs()[0])


def test_greedy_soup_counts_its_looks_and_keeps_dtypes():
    looks = []
    taus = [{k: v.bfloat16() for k, v in run.items()} for run in runs()]
    soup = greedy_soup(taus, lambda tau: looks.append(tau) or float(len(looks)))
    assert len(looks) == 2 * 4 - 1
    assert {v.dtype for v in soup.values()} == {torch.bfloat16}
    torch.testing.assert_close(greedy_soup(taus[:1], lambda tau: 0.0), taus[0])


def test_greedy_soup_names_what_is_wrong():
    with pytest.raises(ValueError, match="accuracy with run 2: got NaN"):
        greedy_soup(runs(), lambda tau: float("nan") if tau["b"] == 9 else 1.0)
    with pytest.raises(ValueError, match="got 0 task vectors"):
        greedy_soup([], lambda tau: 0.0)
    bad = runs()
    bad[1]["b"] = torch.tensor(torch.inf).double()
    with pytest.raises(ValueError, match="task vector 1, key 'b'"):
        greedy_soup(bad, lambda tau: 0.0)


# ---------------------------------------------------------------------------- SeWA


def test_sewa_finds_the_pair_that_brute_force_finds():
    """A quadratic loss; the best mean of two among all pairs."""
    taus = runs((5.0, 1.0, -1.2, 7.0, 6.0))

    def loss(tau):
        return tau["w"].square().sum()

    best = min(combinations(taus, 2), key=lambda pair: loss(average(list(pair))).item())
    torch.testing.assert_close(sewa(taus, loss, k=2, generator=seeded(), steps=100), average(list(best)))


def test_sewa_limits():
    taus = runs()

    def loss(tau):
        return tau["w"].square().sum()

    torch.testing.assert_close(sewa(taus, loss, k=4, generator=seeded()), average(taus))
    for k in (1, 2, 3):  # no step: the last k checkpoints
        torch.testing.assert_close(sewa(taus, loss, k=k, generator=seeded(), steps=0), average(taus[4 - k :]))
    torch.testing.assert_close(sewa(taus[:1], loss, k=1, generator=seeded()), taus[0])
    low = [{k: v.half() for k, v in run.items()} for run in taus]
    assert sewa(low, loss, k=2, generator=seeded(), steps=2)["w"].dtype == torch.float16


def test_the_masks_are_relaxed_draws_that_average_to_a_half():
    shares = []
    taus = [{"w": torch.eye(3)[n]} for n in range(3)]  # the mean shows the shares themselves

    def loss(tau):
        shares.append(tau["w"].detach())
        return 0 * tau["w"].sum()

    sewa(taus, loss, k=1, generator=seeded(), steps=400, temperature=0.2)
    drawn = torch.stack(shares)
    torch.testing.assert_close(drawn.sum(dim=1), torch.ones(400))
    torch.testing.assert_close(drawn.mean(dim=0), torch.full((3,), 1 / 3), rtol=0, atol=0.05)
    assert drawn.std(dim=0).min() > 0.2, "near a subset, not near the mean"
    again = []
    sewa(
        taus,
        lambda tau: again.append(tau["w"].detach()) or 0 * tau["w"].sum(),
        k=1,
        generator=seeded(),
        steps=3,
        temperature=0.2,
    )
    torch.testing.assert_close(torch.stack(again), drawn[:3])


@pytest.mark.parametrize("knobs", [{"steps": 6, "lr": 0.3, "temperature": 0.7}, {}], ids=["given", "documented"])
def test_each_step_of_sewa_is_adam_on_the_relaxed_mask(knobs):
    """a, m and Adam's two means by hand; derivatives by differences. The defaults are 50, 0.1 and 0.5."""
    want, seen = torch.tensor([0.7, 0.1, 0.2]).double(), []
    taus = [{"w": torch.eye(3).double()[n]} for n in range(3)]

    def loss(tau):
        seen.append(tau["w"].detach())
        return (tau["w"] - want).square().sum()

    sewa(taus, loss, k=1, generator=seeded(), **knobs)
    steps, lr, temperature = knobs.values() if knobs else (50, 0.1, 0.5)
    assert len(seen) == steps
    g, a = seeded(), torch.zeros(3).double()
    first, second = torch.zeros(3).double(), torch.zeros(3).double()
    for step in range(steps):
        noise = torch.rand(3, generator=g).double().logit()

        def share(a, noise=noise):
            m = 1 / (1 + torch.exp(-(a + noise) / temperature))
            return m / m.sum()

        torch.testing.assert_close(seen[step], share(a), rtol=1e-3, atol=1e-4)
        h = 1e-5 * torch.eye(3).double()
        slope = [(share(a + e) - want).square().sum() - (share(a - e) - want).square().sum() for e in h]
        slope = torch.stack(slope) / 2e-5
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        a = a - lr * (first / (1 - 0.9 ** (step + 1))) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)


def test_sewa_names_what_is_wrong():
    def call(**knobs):
        return sewa(runs(), lambda tau: tau["w"].sum(), **{"k": 2, "generator": seeded()} | knobs)

    for bad, match in [
        ({"k": 0}, r"k: got 0, expected 1\.\.4"),
        ({"k": 5}, r"k: got 5, expected 1\.\.4"),
        ({"steps": -1}, "steps: got -1"),
        ({"lr": 0.0}, r"lr, temperature: got 0\.0"),
        ({"temperature": 0.0}, r"lr, temperature: got 0\.1, 0\.0"),
    ]:
        with pytest.raises(ValueError, match=match):
            call(**bad)
    with pytest.raises(ValueError, match="got 0 task vectors"):
        sewa([], lambda tau: tau["w"].sum(), k=1, generator=seeded())


# ---------------------------------------------------------------------------- ACM


def test_mutual_information_is_the_gaussian_one_of_numpys_correlation():
    g = seeded()
    a = torch.randn(400, 5, generator=g)
    b = torch.tensor([0.0, 0.5, 1.0, 2.0, -1.0]) * a + torch.randn(400, 5, generator=g)
    expected = np.mean([-0.5 * np.log(1 - np.corrcoef(a[:, j], b[:, j])[0, 1] ** 2) for j in range(5)])
    assert mutual_information(a, b) == pytest.approx(expected, rel=1e-5)
    assert mutual_information(3 * a + 1, -b) == pytest.approx(expected, rel=1e-5)
    assert mutual_information(1e-4 * a, 1e-4 * b) == pytest.approx(expected, rel=1e-5)  # small is not constant
    assert mutual_information(a, a) == pytest.approx(0.5 * np.log(1e6), rel=1e-3)
    assert mutual_information(torch.ones(4, 2), torch.ones(4, 2)) == pytest.approx(0.5 * np.log(1e6), rel=1e-3)
    with pytest.raises(ValueError, match=r"activations: got shapes \(3, 2\) and \(2, 3\)"):
        mutual_information(torch.ones(3, 2), torch.ones(2, 3))
    with pytest.raises(ValueError, match="activations: got shapes"):
        mutual_information(torch.ones(3), torch.ones(3))


LAYERS = {"resblocks.0.w": 2.0, "resblocks.0.b": 3.0, "resblocks.1.w": 5.0, "resblocks.1.v": 7.0, "proj": 11.0}


def test_acm_weighs_by_layer_then_block_then_model():
    taus = [{k: torch.tensor([s * v]) for k, v in LAYERS.items()} for s in (1.0, -3.0)]
    information = [{"resblocks.0.w": 0.5, "resblocks.1.w": 0.0, "resblocks.1.v": 2.0}, {"resblocks.1.w": 1.0}]

    def weight(value, sharpness=1.5):
        return 2 / (1 + np.exp(sharpness * value))

    first = {"resblocks.0.w": weight(0.5), "resblocks.1.w": 1.0, "resblocks.1.v": weight(2.0)}
    first |= {"resblocks.0.b": weight(0.5), "proj": np.mean(list(first.values()))}
    merged = acm(taus, information, sharpness=1.5)
    for key, v in LAYERS.items():
        assert merged[key].item() == pytest.approx(first[key] * v - 3 * weight(1.0) * v, rel=1e-5)


def test_acm_limits():
    taus = [{k: torch.tensor([s * v]) for k, v in LAYERS.items()} for s in (1.0, -3.0)]
    information = [{"resblocks.0.w": 0.5}, {"resblocks.1.w": 1.0}]
    torch.testing.assert_close(acm(taus, information, sharpness=0.0), task_arithmetic(taus))
    torch.testing.assert_close(acm(taus, [{"proj": 0.0}] * 2), task_arithmetic(taus))
    torch.testing.assert_close(acm(taus, information), acm(taus[::-1], information[::-1]))
    torch.testing.assert_close(acm(taus, information), acm(taus, information, sharpness=1.0))
    alone = acm(taus[:1], information[:1])  # one layer known: its weight for all
    torch.testing.assert_close(alone, {k: 2 / (1 + np.exp(0.5)) * v for k, v in taus[0].items()})
    low = [{k: v.half() for k, v in tau.items()} for tau in taus]
    assert acm(low, information)["proj"].dtype == torch.float16


def test_acm_names_what_is_wrong():
    taus = [{k: torch.tensor([v]) for k, v in LAYERS.items()}] * 2
    good = {"proj": 1.0}
    for bad, match in [
        ([good], "information: got 1, expected 2"),
        ([good, {}], "information of expert 1: got none"),
        ([{"sea": 1.0}, good], "information of expert 0, 'sea'"),
        ([good, {"proj": -0.1}], r"information of expert 1, 'proj': got -0\.1"),
        ([good, {"proj": float("nan")}], "information of expert 1, 'proj': got nan"),
    ]:
        with pytest.raises(ValueError, match=match):
            acm(taus, bad)
    lost = [taus[0], taus[1] | {"proj": torch.tensor([torch.nan])}]
    with pytest.raises(ValueError, match="task vector 1, key 'proj': got 1 entries that are NaN"):
        acm(lost, [good, good])
    with pytest.raises(ValueError, match="task vector 1, key 'proj': got 1 entries that are NaN"):
        sewa(lost, lambda tau: tau["proj"].sum(), k=1, generator=seeded())
    with pytest.raises(ValueError, match="sharpness: got -1"):
        acm(taus, [good] * 2, sharpness=-1)
    with pytest.raises(ValueError, match="got 0 task vectors"):
        acm([], [])
