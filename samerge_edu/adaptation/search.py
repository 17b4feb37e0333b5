"""Black-box search, by Optuna: what DF-Merge and the evolutionary recipes share. Needs `samerge-edu[search]`."""

import warnings
from collections.abc import Callable, Mapping
from typing import Literal

Space = Mapping[str, tuple[float, float]]
"""name of a number -> (lowest, highest)."""


def maximise(
    objective: Callable[[dict[str, float]], float],
    space: Space,
    *,
    trials: int,
    sampler: Literal["gp", "cmaes"],
    start: Mapping[str, float],
    seed: int = 0,
    warmup: int = 10,
) -> tuple[dict[str, float], float]:
    """(best point, its value) of `trials` evaluations of the objective; the first one is at `start`.

    sampler "gp": Bayesian optimisation with a Gaussian process, after `warmup` random points. "cmaes": evolution
    strategy with covariance adaptation. Deterministic for a seed and an Optuna version. Of equal values the first wins.
    Raises ValueError if Optuna is missing, for trials < 1, an empty range, and a start outside the space.

    >>> space, start = {"x": (0.0, 1.0)}, {"x": 0.5}
    >>> best, value = maximise(lambda at: -((at["x"] - 0.7) ** 2), space, trials=1, sampler="gp", start=start)
    >>> best, round(value, 2)
    ({'x': 0.5}, -0.04)
    """
    try:
        import optuna
    except ImportError:
        raise ValueError('the search needs Optuna: pip install "samerge-edu[search]"') from None
    if trials < 1:
        raise ValueError(f"trials: got {trials}, expected at least 1")
    for name, (low, high) in space.items():
        if not low < high:
            raise ValueError(f"range of '{name}': got {low}..{high}, expected a lowest below a highest number")
        if name not in start or not low <= start[name] <= high:
            raise ValueError(f"start of '{name}': got {start.get(name)}, expected a number in {low}..{high}")
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # samplers that Optuna calls experimental
            if sampler == "gp":
                chosen = optuna.samplers.GPSampler(seed=seed, n_startup_trials=warmup, deterministic_objective=True)
            elif sampler == "cmaes":
                chosen = optuna.samplers.CmaEsSampler(x0=dict(start), seed=seed, n_startup_trials=1)
            else:
                raise ValueError(f"sampler: got '{sampler}', expected 'gp' or 'cmaes'")
            study = optuna.create_study(direction="maximize", sampler=chosen)
            study.enqueue_trial(dict(start))
            study.optimize(
                lambda trial: objective({name: trial.suggest_float(name, *space[name]) for name in space}),
                n_trials=trials,
            )
    finally:
        optuna.logging.set_verbosity(verbosity)
    value, _, params = max((t.value, -t.number, t.params) for t in study.trials if t.value is not None)
    return dict(params), value
