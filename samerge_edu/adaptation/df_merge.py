"""DF-Merge (Lee et al., Dynamic Fisher-weighted model merging via Bayesian optimization, NAACL 2025, 2504.18992)."""

from collections.abc import Sequence

from torch import Tensor

from ..evaluate import id_average
from ..merges.fisher import fisher as fisher_merge
from ..params import Params, add
from ..statistics import Kind, fisher
from ..suites.suite import Suite
from .search import maximise


def df_merge(
    suite: Suite,
    taus: Sequence[Params],
    *,
    trials: int = 30,
    warmup: int = 10,
    n: int = 16,
    n_val: int = 40,
    kind: Kind = "empirical",
    floor: float = 1e-6,
    seed: int = 0,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Shrink each task vector, ask the Fisher information *there*, and let validation choose how far to shrink.

        tau_m(c) = sum_n F_n(c_n) * c_n tau_n / sum_n F_n(c_n)         F_n(c_n): diagonal Fisher at theta_0 + c_n tau_n
        c = argmax over [0, 1]^N of the validation accuracy of theta_0 + tau_m(c)

    by Bayesian optimisation: a Gaussian process of the accuracy, asked where it hopes for most.

    Args:
        suite: whose base, heads, training images (for the Fisher) and validation images (for the choice) are used.
        taus: N task vectors, one for each ID task, in that order.
        trials, warmup: evaluations of the accuracy, the first ones at random points. The authors' are 60 and 10.
        n: images a task for each Fisher; the authors' code takes about 30.
        n_val: labelled validation images a task.
        kind: of the Fisher, see `statistics.fisher`; "true" is ten times as slow. Which one the paper means is not
            clear from its code's description: our choice.
        floor: added to each entry of F_n.
        seed: of the search.
    Returns (tau_m, {task: c_n}); theta_0 + tau_m (lam = 1).
    Raises ValueError for task vectors that are not one an ID task, without Optuna, and as `fisher` and `maximise`.
    Limits: c = 1 is Fisher merging (unnormalised), where the search starts; so on its own validation images DF-Merge
    is never below it. c_n = 0 pulls towards the base with expert n's weight.
    """
    if len(taus) != len(suite.id_tasks):
        raise ValueError(f"got {len(taus)} task vectors, expected {len(suite.id_tasks)}, one for each ID task")

    def merged(c: dict[str, float]) -> dict[str, Tensor]:
        scaled = [{key: c[task] * tau[key] for key in tau} for task, tau in zip(suite.id_tasks, taus, strict=True)]
        fishers = [
            fisher(suite, add(suite.theta_0, tau), task, n, kind=kind)
            for task, tau in zip(suite.id_tasks, scaled, strict=True)
        ]
        return fisher_merge(scaled, fishers, normalise=False, floor=floor)

    c, _ = maximise(
        lambda c: id_average(suite, add(suite.theta_0, merged(c)), "val", n_val),
        {task: (0.0, 1.0) for task in suite.id_tasks},
        trials=trials,
        sampler="gp",
        start={task: 1.0 for task in suite.id_tasks},
        seed=seed,
        warmup=warmup,
    )
    return merged(c), c
