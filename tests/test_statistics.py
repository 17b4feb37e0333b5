"""Statistics of data: against slow loops, hooks and finite differences; what they may look at, and what not."""

import copy

import pytest
import torch
from data_suite import DataSuite
from torch.func import functional_call
from torch.nn import functional as F

from samerge_edu import statistics
from samerge_edu.statistics import activations, embed, features, fisher, gradients, input_grams, logits

TASK = "noise"


@pytest.fixture(scope="module")
def suite():
    return DataSuite()


@pytest.fixture(scope="module")
def theta(suite):
    return suite.experts[TASK]


def log_p(suite, theta, x, task=TASK):
    """Logits written out, with the module itself rather than functional_call."""
    suite.visual.load_state_dict(theta)
    z = suite.visual(x)
    return (suite.logit_scale * (z / z.norm(dim=-1, keepdim=True)) @ suite.heads[task].T).log_softmax(dim=-1)


def per_example(suite, theta, n, weight):
    """sum over images i and classes c of weight(i, c, p) * (d log p_ic / d theta)^2, one backward pass each, / n."""
    images, labels = suite.images(TASK, "train", n)
    total = {key: torch.zeros_like(value) for key, value in theta.items()}
    for x, y in zip(images, labels, strict=True):
        lp = log_p(suite, theta, x[None])[0]
        for c in range(len(lp)):
            suite.visual.zero_grad()
            lp[c].backward(retain_graph=True)
            for key, parameter in suite.visual.named_parameters():
                if parameter.grad is not None:
                    total[key] += weight(c, y, lp.exp().detach()) * parameter.grad**2 / n
    return total


def assert_same(got, expected, rtol=1e-3):
    assert got.keys() == expected.keys()
    for key in expected:
        torch.testing.assert_close(got[key], expected[key], rtol=rtol, atol=rtol * expected[key].abs().max().item())


def test_true_fisher_is_the_loop_over_images_and_classes(suite, theta):
    assert_same(fisher(suite, theta, TASK, n=5), per_example(suite, theta, 5, lambda c, y, p: p[c]))


def test_empirical_fisher_is_the_loop_over_images_at_their_labels(suite, theta):
    expected = per_example(suite, theta, 5, lambda c, y, p: float(c == y))
    for batch in (2, 5, 16):
        assert_same(fisher(suite, theta, TASK, n=5, kind="empirical", batch=batch), expected)


@pytest.mark.parametrize("batch", [2, 4])
def test_the_cheap_fisher_squares_the_sum_of_a_batch(suite, theta, batch):
    images = suite.images(TASK, "train", 4)[0]
    total = {key: torch.zeros_like(value) for key, value in theta.items()}
    for x in images.split(batch):
        lp = log_p(suite, theta, x)
        suite.visual.zero_grad()
        (lp.exp().detach().sqrt() * lp).sum().backward()
        for key, parameter in suite.visual.named_parameters():
            total[key] += parameter.grad**2 / 4
    assert_same(fisher(suite, theta, TASK, n=4, kind="batch", batch=batch), total)


def test_only_the_cheap_fisher_depends_on_its_batch(suite, theta):
    def of(kind, batch):
        return fisher(suite, theta, TASK, n=8, kind=kind, batch=batch)["proj"]

    torch.testing.assert_close(of("true", 1), of("true", 8))
    assert not torch.allclose(of("batch", 1), of("batch", 8), rtol=0.1)


def test_the_true_fisher_is_the_curvature_of_the_kl_divergence(suite, theta):
    """KL(p || p(theta + h u)) = h^2 / 2 u^T F u + ...: along one entry that is F's diagonal. In float64."""
    F_ = fisher(suite, theta, TASK, n=3)["proj"]
    exact = {key: value.double() for key, value in theta.items()}
    tower = copy.deepcopy(suite.visual).double()
    x, head = suite.images(TASK, "train", 3)[0].double(), suite.heads[TASK].double().T

    def log_p(proj):
        z = F.normalize(functional_call(tower, exact | {"proj": proj}, (x,)), dim=-1)
        return (suite.logit_scale * z @ head).log_softmax(dim=-1)

    base, h = log_p(exact["proj"]), 1e-4
    for i, j in [(0, 0), (3, 5), (31, 15)]:
        e = torch.zeros_like(exact["proj"])
        e[i, j] = h
        kl = [(base.exp() * (base - log_p(exact["proj"] + sign * e))).sum(dim=-1).mean() for sign in (1, -1)]
        assert (sum(kl) / h**2).item() == pytest.approx(F_[i, j].item(), rel=1e-3)


def test_gradients_are_finite_differences_of_the_loss(suite, theta):
    g = gradients(suite, theta, TASK, n=6, batch=4)
    images, labels = suite.images(TASK, "train", 6)

    def loss(theta):
        return F.cross_entropy(logits(suite, embed(suite, theta, images), TASK), labels).item()

    for key in ("proj", "transformer.resblocks.0.attn.in_proj_weight", "ln_post.bias"):
        at, h = g[key].abs().argmax(), 3e-3
        moved = []
        for sign in (1, -1):
            step = theta[key].clone()
            step.view(-1)[at] += sign * h
            moved.append(loss({**theta, key: step}))
        assert (moved[0] - moved[1]) / (2 * h) == pytest.approx(g[key].view(-1)[at].item(), rel=2e-2)


# ---------------------------------------------------------------------------- Grams and activations


def hooked_inputs(suite, theta, images):
    """X of every matrix that an nn.Linear hook can see, and of the fused in_proj by hand: the output of ln_1."""
    suite.visual.load_state_dict(theta)
    seen, handles = {}, []
    for i, block in enumerate(suite.visual.transformer.resblocks):
        name = f"transformer.resblocks.{i}."
        for part, path in [(block.mlp.c_fc, "mlp.c_fc.weight"), (block.mlp.c_proj, "mlp.c_proj.weight")]:
            handles.append(
                part.register_forward_hook(lambda m, x, z, key=name + path: seen.__setitem__(key, x[0].detach()))
            )
        handles.append(
            block.ln_1.register_forward_hook(
                lambda m, x, z, key=name + "attn.in_proj_weight": seen.__setitem__(key, z.detach())
            )
        )
    with torch.no_grad():
        suite.visual(images)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize(("n", "batch"), [(7, 3), (1, 64), (7, 64)])
def test_grams_are_those_of_the_inputs_that_hooks_see(suite, theta, n, batch):
    G = input_grams(suite, theta, TASK, n=n, batch=batch)
    seen = hooked_inputs(suite, theta, suite.images(TASK, "train", n)[0])
    assert len(seen) == 6
    for key, x in seen.items():
        X = x.reshape(-1, x.shape[-1]).double()
        torch.testing.assert_close(G[key], X.T @ X / len(X), rtol=1e-4, atol=1e-5)


def test_no_matrix_of_the_blocks_is_missed_the_fused_and_the_uncalled_included(suite, theta):
    matrices = {k for k, v in theta.items() if v.ndim == 2 and "resblocks" in k}
    assert set(input_grams(suite, theta, TASK, n=2)) == matrices
    assert sum("out_proj" in key for key in matrices) == sum("in_proj" in key for key in matrices) == 2


def test_the_gram_of_out_proj_tells_what_attention_answers(suite, theta):
    """Attention by hand: soft-max over the tokens, heads side by side, before the last product."""
    G = input_grams(suite, theta, TASK, n=3)
    block = "transformer.resblocks.0."
    x = hooked_inputs(suite, theta, suite.images(TASK, "train", 3)[0])[block + "attn.in_proj_weight"]
    q, k, v = (x @ theta[block + "attn.in_proj_weight"].T + theta[block + "attn.in_proj_bias"]).chunk(3, dim=-1)
    q, k, v = (t.unflatten(-1, (2, 16)).transpose(1, 2) for t in (q, k, v))
    mixed = ((q @ k.mT / 4).softmax(dim=-1) @ v).transpose(1, 2).reshape(-1, 32).double()
    torch.testing.assert_close(G[block + "attn.out_proj.weight"], mixed.T @ mixed / len(mixed), rtol=1e-4, atol=1e-5)


def test_names_choose_among_the_grams(suite, theta):
    name = "transformer.resblocks.1.mlp.c_fc.weight"
    torch.testing.assert_close(
        input_grams(suite, theta, TASK, n=2, names=[name]), {name: input_grams(suite, theta, TASK, n=2)[name]}
    )


def test_tensors_that_are_views_of_one_vector_are_told_apart(suite, theta):
    vector = torch.cat([value.reshape(-1) for value in theta.values()])
    sizes = [value.numel() for value in theta.values()]
    views = {k: v.view(theta[k].shape) for k, v in zip(theta, vector.split(sizes), strict=True)}
    torch.testing.assert_close(input_grams(suite, views, TASK, n=2), input_grams(suite, theta, TASK, n=2))


def test_activations_are_the_inputs_times_the_matrix(suite, theta):
    Z, G = activations(suite, theta, TASK, n=5, batch=2), input_grams(suite, theta, TASK, n=5)
    assert set(Z) == set(G)
    for key, z in Z.items():
        assert z.shape == (5 * 5, theta[key].shape[0])  # 4 patches and the class token of each image
        W = theta[key].double()
        torch.testing.assert_close((z.double().T @ z.double()) / 25, W @ G[key] @ W.T, rtol=1e-3, atol=1e-4)


def test_features_are_those_of_the_suite_and_can_be_learned_on(suite, theta):
    z = features(suite, theta, TASK, n=4)
    torch.testing.assert_close(z, suite.encode(theta, suite.images(TASK, "train", 4)[0]))
    assert not z.is_inference()


# ---------------------------------------------------------------------------- what they look at

UNLABELLED = {
    "features": features,
    "activations": activations,
    "input_grams": input_grams,
    "fisher": fisher,
    "fisher, batch": lambda *a, **k: fisher(*a, kind="batch", **k),
}
LABELLED = {"gradients": gradients, "fisher, empirical": lambda *a, **k: fisher(*a, kind="empirical", **k)}


@pytest.mark.parametrize("name", UNLABELLED)
def test_test_images_only_for_those_who_say_so_and_never_their_labels(suite, theta, name):
    statistic = UNLABELLED[name]
    with pytest.raises(ValueError, match=r"split: got 'test', expected 'train' or 'val'; .* transductive=True"):
        statistic(suite, theta, TASK, n=2, split="test")
    with pytest.raises(ValueError, match="transductive: got True with split 'val'"):
        statistic(suite, theta, TASK, n=2, split="val", transductive=True)
    statistic(suite, theta, TASK, n=2, split="test", transductive=True)  # the suite's test labels are locked


@pytest.mark.parametrize("name", LABELLED)
def test_labelled_statistics_never_see_the_test_split(suite, theta, name):
    with pytest.raises(ValueError, match="split: got 'test'"):
        LABELLED[name](suite, theta, TASK, n=2, split="test")


@pytest.mark.parametrize("name", [*UNLABELLED, *LABELLED])
class TestEachStatistic:
    @property
    def all(self):
        return UNLABELLED | LABELLED

    def test_bad_input_is_named(self, suite, theta, name):
        with pytest.raises(ValueError, match="n: got 0 images, expected at least 1"):
            self.all[name](suite, theta, TASK, n=0)
        with pytest.raises(ValueError, match="task: got 'sea', which has no head; expected one of ink, noise"):
            self.all[name](suite, theta, "sea", n=2)

    def test_the_same_again_and_nothing_is_changed(self, suite, theta, name):
        before = {key: value.clone() for key, value in theta.items()}
        module = {key: value.clone() for key, value in suite.visual.state_dict().items()}
        a, b = (self.all[name](suite, theta, TASK, n=3) for _ in range(2))
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        torch.testing.assert_close(theta, before, rtol=0, atol=0)
        torch.testing.assert_close(dict(suite.visual.state_dict()), module, rtol=0, atol=0)
        assert not any(value.requires_grad for value in theta.values())


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_outside_the_classes_are_named(suite, theta, label, monkeypatch):
    images, labels = suite.images(TASK, "train")
    monkeypatch.setitem(suite.data, (TASK, "train"), (images, labels.clone().index_fill_(0, torch.tensor(1), label)))
    with pytest.raises(ValueError, match=r"labels of 'noise': got .*, expected 0\.\.2"):
        gradients(suite, theta, TASK, n=3)
    with pytest.raises(ValueError, match="labels of 'noise'"):
        fisher(suite, theta, TASK, n=3, kind="empirical")


def test_an_unknown_kind_is_named(suite, theta):
    with pytest.raises(ValueError, match="kind: got 'exact', expected 'true', 'empirical' or 'batch'"):
        fisher(suite, theta, TASK, kind="exact")


def test_a_frozen_head_made_in_inference_mode_does_not_stop_gradients(suite, theta, monkeypatch):
    with torch.inference_mode():
        monkeypatch.setitem(suite.heads, TASK, suite.heads[TASK].clone())
    assert statistics.gradients(suite, theta, TASK, n=2)["proj"].abs().sum() > 0
