"""Two beginnings: the study's parts on small numbers, and what the shipped record says."""

import pytest
import torch
from torch.nn import functional as F

from samerge_edu import plots
from samerge_edu.alignment.axes import permute, shuffled, vit_axes
from samerge_edu.studies import alignment as study
from samerge_edu.suites import load_suite
from samerge_edu.suites.pocket.suite import load_pocket_base


@pytest.fixture(scope="module")
def suite():
    return load_suite("pocket")


def test_barrier_by_hand():
    assert study.barrier([90.0, 80.0, 50.0]) == 0.0 + max(70.0 - 80.0, 0.0)
    assert study.barrier([90.0, 20.0, 70.0]) == 60.0
    assert study.barrier([100.0, 100.0, 40.0, 100.0]) == 60.0


def test_between_two_models():
    a, b = {"w": torch.tensor([1.0])}, {"w": torch.tensor([3.0])}
    assert study.between(a, b, 0.25)["w"].item() == 1.5


def test_an_mlp_learns_and_is_the_same_for_a_seed(suite):
    x, y = study.digits(suite, "train", 200)
    assert x.shape == (200, 256)
    theta, again = (study.train_mlp(x, y, 16, seed=1, steps=60) for _ in range(2))
    assert all(torch.equal(theta[k], again[k]) for k in theta)
    assert not torch.equal(study.train_mlp(x, y, 16, seed=2, steps=1)["0.weight"], theta["0.weight"])
    assert study.right(theta, x, y) > 30


def test_a_row_of_widths_says_what_it_measured(suite, monkeypatch):
    """With one network twice, everything is that network: matching and zipping find it."""
    train = study.train_mlp
    monkeypatch.setattr(study, "train_mlp", lambda x, y, width, seed: train(x, y, width, 0, steps=30))
    row = study.two_mlps(suite, 8, seed=1, images=100)
    assert row["width"] == 8
    assert row["ends"] == row["mean"] == row["matched"] == pytest.approx(row["zipped"], abs=1)
    assert row["cosine"] == row["cosine_matched"] == pytest.approx(1)


def test_hidden_units_are_what_the_tower_computes(suite):
    theta = dict(suite.theta_0)
    tower = suite.visual
    tower.load_state_dict(theta)
    seen = []
    handle = tower.transformer.resblocks[2].mlp.gelu.register_forward_hook(lambda m, x, y: seen.append(y))
    with torch.inference_mode():
        tower(suite.images("digits", "train", 3)[0])
    handle.remove()
    found = study.hidden(suite, theta, n=3)
    assert list(found) == [f"blocks.{i}.mlp" for i in range(5)]
    torch.testing.assert_close(found["blocks.2.mlp"], seen[0].flatten(0, 1), atol=1e-4, rtol=1e-4)


def test_on_a_permuted_copy_everything_is_kept(suite, monkeypatch):
    for knob, value in {"N_VAL": 20, "N_TEST": 40, "LAMS": (1.0,)}.items():
        monkeypatch.setattr(study, knob, value)
    monkeypatch.setattr(study.carried, "__defaults__", (20, 40))
    rows = list(study.transfer(suite, study.copy_of(suite), ["land_cover"], ("as it is", "units matched")))
    assert [row["way"] for row in rows] == ["as it is", "units matched"]
    as_it_is, matched = (row["kept"] for row in rows)
    assert matched == pytest.approx(100, abs=5)
    assert as_it_is < 60
    assert rows[0]["old_base"] == pytest.approx(rows[0]["new_base"], abs=2.6)  # the same function, an image at most


def test_another_embedding_is_turned_by_what_both_have_read(suite):
    other = load_pocket_base("other")
    Q = study.embedding(other, suite)
    captions = study.all_captions()
    before, after = study.read(other, captions), study.read(other, captions) @ Q
    ours = study.read(suite, captions)
    assert (before * ours).sum(dim=1).mean() < 0.1
    assert (after * ours).sum(dim=1).mean() > 0.6


def test_units_of_a_copy_are_the_same_units(suite):
    axes = vit_axes(suite.theta_0, suite.attention_heads)
    copy = permute(suite.theta_0, shuffled(suite.theta_0, axes, study.seeded(5)), axes)
    row = study.units(suite, "copy", copy, ["digits", "flags"], n=24)
    assert row["cosine_matched"] == pytest.approx(1)
    assert max(row["cosine"], row["cosine_random"]) < 0.5
    assert len(row["blocks"]) == 5
    for block in row["blocks"]:
        assert block["matched"] == pytest.approx(1, abs=1e-3)
        assert block["best"] == pytest.approx(1, abs=1e-3)
        assert block["linear"] > 0.9


def test_agreement_by_construction():
    g = study.seeded(0)
    x, noise = torch.randn(400, 6, generator=g), torch.randn(400, 6, generator=g)
    same = study.agreement(x, 2 * x + 1)
    assert (same["matched"], same["best"], same["linear"]) == pytest.approx((1, 1, 1), abs=1e-2)
    moved = study.agreement(x, x.roll(1, dims=1))
    assert abs(moved["matched"]) < 0.2
    assert (moved["best"], moved["linear"]) == pytest.approx((1, 1), abs=1e-2)
    nothing = study.agreement(x, noise)
    assert max(abs(nothing["matched"]), nothing["linear"]) < 0.1
    assert nothing["best"] == pytest.approx(nothing["chance"], abs=0.1)
    half = study.agreement(x + noise, x)
    assert half["linear"] == pytest.approx(0.5, abs=0.1)
    assert half["matched"] == pytest.approx(0.5**0.5, abs=0.1)


def test_zipped_blocks_of_one_tower_are_the_tower(suite):
    theta = dict(suite.theta_0)
    axes = vit_axes(theta, suite.attention_heads)
    zipped = study.zipped_mlps(suite, theta, theta, axes)
    images = suite.images("flags", "val", 5)[0]
    similar = F.cosine_similarity(suite.encode(zipped, images), suite.encode(theta, images))
    assert similar.min() > 0.8  # a unit may be paired with another of its own network, up to beta


# ---------------------------------------------------------------------------- the shipped record


@pytest.fixture(scope="module")
def record():
    return study.recorded()


def test_the_record_is_whole(record, suite):
    assert {(row["width"], row["seed"]) for row in record["widths"]} == {
        (width, seed) for width in study.WIDTHS for seed in range(study.SEEDS)
    }
    assert {(row["to"], row["way"]) for row in record["lines"]} == {
        (to, way) for to in ("stranger", "copy") for way in ("as it is", "matched")
    }
    assert [row["way"] for row in record["stranger"]] == list(study.WAYS)
    second = [(row["task"], row["way"]) for row in record["release"] if row["to"] == "pocket-second-base"]
    assert second == [(task, way) for task in suite.id_tasks for way in study.WAYS]
    assert [row["to"] for row in record["units"]][1:] == ["copy", "pocket-other-base", "pocket-second-base"]


def test_what_must_work_does(record):
    """The controls: a copy is matched back, a continuation needs no matching, wide MLPs can be averaged."""
    lines = {(row["to"], row["way"]): row for row in record["lines"]}
    assert lines["copy", "matched"]["barrier"] < 1
    assert lines["copy", "as it is"]["barrier"] > 50
    kept = {}
    for row in record["release"]:
        kept.setdefault((row["to"], row["way"]), []).append(row["kept"])
    assert min(kept["a permuted copy", "units matched"]) > 90
    assert min(kept["a continuation", "as it is"]) > 50
    (wide,) = [row for row in record["widths"] if (row["width"], row["seed"]) == (512, 0)]
    assert wide["matched"] > wide["mean"] + 10


def test_figures_and_tables_of_the_record(record):
    figure, sentence = plots.two_beginnings(record["widths"], record["lines"])
    assert "Between two ViTs the barrier is" in sentence
    assert len(figure.axes[1].lines) == 4
    figure, sentence = plots.carried(record["release"])
    assert "a permuted copy 100 %" in sentence
    blocks = study.tables(record)
    assert blocks["widths"].count("\n") == 2 + len(study.WIDTHS)
    assert blocks["release"].count("\n") == 2 + 5 + 2 + 2


def test_the_record_and_the_weights_agree(record, suite):
    """One line measured anew, on fewer points: the shipped stranger, today."""
    (row,) = [row for row in record["lines"] if (row["to"], row["way"]) == ("stranger", "as it is")]
    other = load_pocket_base("other")
    end = study.turned(dict(other.experts["digits"]), study.embedding(other, suite))
    half = study.between(dict(suite.experts["digits"]), end, 0.5)
    assert study.accuracy(suite, half, "digits", n=study.N_TEST) == pytest.approx(row["line"][5], abs=2)
