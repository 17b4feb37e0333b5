"""Several items at a time, in the order of the items."""

import pytest
import torch

from samerge_edu.parallel import side_by_side


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_side_by_side_keeps_the_order_and_gives_the_threads_back(device):
    before = torch.get_num_threads()
    assert side_by_side(lambda n: (n, torch.get_num_threads()), range(5), device) == [(n, 1) for n in range(5)]
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda n: 1 / n, [1, 0], device)
    assert torch.get_num_threads() == before
