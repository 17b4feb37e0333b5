import pytest
import torch

from samerge_edu.merges.average import average
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.params import add, lazy_task_vectors, task_vectors


@pytest.fixture
def g():
    return torch.Generator().manual_seed(0)


def experts(g, N=3):
    return [{"w": torch.randn(4, 3, generator=g), "b": torch.randn(5, generator=g)} for _ in range(N)]


@pytest.mark.parametrize("N", [1, 2, 5])
def test_against_a_stack(g, N):
    taus = experts(g, N)
    for key in taus[0]:
        stack = torch.stack([tau[key] for tau in taus])
        torch.testing.assert_close(average(taus)[key], stack.mean(dim=0))
        torch.testing.assert_close(task_arithmetic(taus)[key], stack.sum(dim=0))


def test_the_average_of_task_vectors_is_the_average_of_the_models(g):
    theta_0, *thetas = experts(g, 4)
    merged = add(theta_0, average(task_vectors(theta_0, thetas)))
    for key in theta_0:
        torch.testing.assert_close(merged[key], torch.stack([theta[key] for theta in thetas]).mean(dim=0))


def test_average_is_task_arithmetic_at_one_over_N(g):
    theta_0, *taus = experts(g, 5)
    for key in theta_0:
        torch.testing.assert_close(
            add(theta_0, average(taus))[key], add(theta_0, task_arithmetic(taus), lam=1 / 4)[key]
        )


def test_negation_undoes_an_expert(g):
    theta_0, tau = experts(g, 2)
    forgotten = add(add(theta_0, tau), task_arithmetic([tau]), lam=-1.0)
    for key in theta_0:
        torch.testing.assert_close(forgotten[key], theta_0[key])


@pytest.mark.parametrize("merge", [average, task_arithmetic])
def test_order_of_keys_and_of_experts_is_irrelevant_and_nothing_is_changed(g, merge):
    taus = experts(g)
    before = [{k: v.clone() for k, v in tau.items()} for tau in taus]
    turned = [dict(reversed(tau.items())) for tau in reversed(taus)]
    for key in taus[0]:
        torch.testing.assert_close(merge(taus)[key], merge(turned)[key])
        assert merge([taus[0]])[key].data_ptr() != taus[0][key].data_ptr()
    assert all(torch.equal(a[k], b[k]) for a, b in zip(taus, before, strict=True) for k in a)


@pytest.mark.parametrize("merge", [average, task_arithmetic])
def test_half_precision_is_summed_in_float32(merge):
    """In fp16, 2048 + 1 = 2048: eight ones would be lost one by one."""
    taus = [{"w": torch.tensor([2048.0], dtype=torch.float16)}] + [{"w": torch.ones(1, dtype=torch.float16)}] * 8
    out = merge(taus)["w"]
    assert out.dtype == torch.float16
    assert out.item() == (2056 if merge is task_arithmetic else torch.tensor(2056 / 9).half().item())


@pytest.mark.parametrize("merge", [average, task_arithmetic])
def test_lazy_task_vectors_are_read_one_tensor_at_a_time(g, merge):
    theta_0, *thetas = experts(g, 3)
    for key, value in merge(lazy_task_vectors(theta_0, thetas)).items():
        torch.testing.assert_close(value, merge(task_vectors(theta_0, thetas))[key])


@pytest.mark.parametrize("merge", [average, task_arithmetic])
def test_refuses(merge):
    with pytest.raises(ValueError, match="got 0 task vectors, expected at least 1"):
        merge([])
    with pytest.raises(ValueError, match=r"task vector 1, key 'w': got shape \(3,\), expected \(2,\)"):
        merge([{"w": torch.ones(2)}, {"w": torch.ones(3)}])
    with pytest.raises(ValueError, match="task vector 1: missing key 'b'"):
        merge([{"w": torch.ones(2), "b": torch.ones(1)}, {"w": torch.ones(2)}])
