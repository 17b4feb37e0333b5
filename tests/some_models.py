"""Models of any shape for property tests."""

import torch
from hypothesis import strategies as st

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@st.composite
def models(draw):
    """1 to 5 tensors of any rank, scalars and empty ones too, in any order of names."""
    names = draw(st.lists(st.sampled_from("a b.weight c.0.bias Z z".split()), min_size=1, unique=True))
    g = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    shapes = st.lists(st.integers(0, 3), max_size=4)
    return {k: torch.randn(draw(shapes), generator=g).to(draw(st.sampled_from(FLOATS))) for k in names}


def equal(a, b):
    return list(a) == list(b) and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)
