"""No method makes a tensor without saying where: on a GPU it would land on the CPU, and the merge would end there.

There is no GPU here. So every merge runs under a mode that sees each call of torch and refuses one that makes a tensor
from nothing, such as torch.zeros(3), unless it names a device.
"""

import pytest
import torch
from shared_properties import MERGES, example_taus
from tiny_suite import TinySuite
from torch.overrides import TorchFunctionMode

from samerge_edu.merges.magmax import magmax
from samerge_edu.methods import METHODS
from samerge_edu.params import task_vectors

FROM_NOTHING = {
    getattr(torch, name)
    for name in "arange empty eye full linspace logspace ones rand randint randn randperm tensor zeros "
    "as_tensor from_numpy".split()
}


EMPTY = torch.empty(0, 3)


class SaysWhere(TorchFunctionMode):
    """Refuses a tensor made from nothing without `device=`."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in FROM_NOTHING and kwargs.get("device") is None and not is_tensor(args):
            raise AssertionError(f"torch.{function.__name__}{args} without device=")
        return function(*args, **kwargs)


def is_tensor(args):
    return bool(args) and isinstance(args[0], torch.Tensor)


@pytest.mark.parametrize("name", MERGES)
def test_no_merge_makes_a_tensor_without_saying_where(name):
    taus = example_taus()
    with SaysWhere():
        tau_m = MERGES[name](taus)
    assert tau_m.keys() == taus[0].keys()


@pytest.mark.parametrize("name", METHODS)
def test_nor_does_a_row_of_the_leaderboard(name, suite):
    taus = task_vectors(suite.theta_0, list(suite.experts.values()))
    with SaysWhere():
        tau_m = METHODS[name].recipe(suite)(taus)
    assert tau_m.keys() == suite.theta_0.keys()


def test_an_empty_tensor_stays_where_it_is():
    with SaysWhere():
        assert magmax([{"w": EMPTY}, {"w": EMPTY}])["w"].shape == (0, 3)


@pytest.fixture(scope="module")
def suite():
    return TinySuite()


@pytest.mark.parametrize(
    "make", [lambda: torch.zeros(3), lambda: torch.tensor(0), lambda: torch.arange(4), lambda: torch.eye(2)]
)
def test_the_mode_sees_a_tensor_made_from_nothing(make):
    with SaysWhere(), pytest.raises(AssertionError, match=r"without device="):
        make()


def test_the_mode_lets_through_what_has_a_place():
    x = torch.ones(3)
    with SaysWhere():
        assert torch.zeros(3, device=x.device).equal(x - torch.as_tensor(x))
        assert torch.zeros_like(x).equal(x.new_zeros(3))
