"""Every row of the leaderboard, literally: what to run, how the paper scales it, what it needs.

A recipe is a function of the suite that returns the merge itself, `taus -> tau_m`. Most ignore the suite; those that
need its base, its architecture or its data take them from it:

    "LwPTV + TIES": Method(lambda suite: pipe(lwptv, ties), lam=1.0, paper="...", year=...)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from .merges.average import average
from .merges.task_arithmetic import task_arithmetic
from .params import Params, pipe
from .saliency import clip_flow, flow_score
from .transforms.sa_merging import sa_merging

SEED = 0
"""Where a recipe draws random numbers, its generator starts here: the same row every time."""


@dataclass(frozen=True)
class Method:
    """One row of the leaderboard.

    `lam` is the scale the paper publishes for its method: theta = theta_0 + lam * tau_m. `needs` says which data the
    method looks at beside the experts' weights; `task_id` and `router` say what it asks for at test time.
    """

    recipe: Callable[..., Callable[[Sequence[Params]], Params]]
    lam: float
    paper: str
    year: int
    needs: Literal["none", "unlabelled", "labelled"] = "none"
    task_id: bool = False
    router: bool = False

    @property
    def all_needs(self) -> str:
        """The data and what is asked for at test time, in words: "none", "labelled, router"."""
        return ", ".join([self.needs, *(["task id"] if self.task_id else []), *(["router"] if self.router else [])])


def sa_merging_score(suite):
    """SynFlow on theta_0 + tau_n, modulated by the sum of all task vectors: see `saliency.flow_score`."""
    return flow_score(suite.theta_0, partial(clip_flow, heads=suite.attention_heads))


METHODS: dict[str, Method] = {
    "Average": Method(lambda suite: average, lam=1.0, paper="2203.05482", year=2022),
    "Task Arithmetic": Method(lambda suite: task_arithmetic, lam=0.3, paper="2212.04089", year=2023),
    "SA-Merging": Method(
        lambda suite: pipe(partial(sa_merging, score=sa_merging_score(suite)), task_arithmetic),
        lam=1.0,
        paper="2606.00511",
        year=2026,
    ),
}
