"""Greedy soup (Wortsman et al., Model soups, ICML 2022, arXiv:2203.05482). The uniform soup is `average`."""

from collections.abc import Callable, Sequence

from torch import Tensor

from ..params import Params, check_finite, check_same_structure, total


def greedy_soup(taus: Sequence[Params], accuracy: Callable[[Params], float]) -> dict[str, Tensor]:
    """Average the runs of *one* task, but only those that help: the best first, then each that raises the accuracy.

        soup = {best}                                            recipe 1 of the paper
        for each other run, best first:   if accuracy(mean of soup and run) > accuracy(mean of soup):   soup += run
        tau_m = mean of the soup

    Args:
        taus: N >= 1 task vectors of runs from one base, fine-tuned on one task with other seeds or rates.
        accuracy: tau -> a number, higher is better, on held-out images of theta_0 + tau. Called 2 N - 1 times.
    Returns tau_m in the task vectors' dtype; theta_0 + tau_m (lam = 1).
    Raises ValueError for structures that differ, NaN or infinity, and for an accuracy that is NaN.
    Limits: the accuracy of the soup is never below that of the best run. Runs that are alike are taken in their order.
    Differs from the paper's text, which keeps a run at an equal accuracy (>=); its code asks for more, as here.

    >>> import torch
    >>> runs = [{"w": torch.tensor([v])} for v in (0.0, 3.0, 9.0)]
    >>> greedy_soup(runs, accuracy=lambda tau: -abs(tau["w"].item() - 2))["w"]  # of the mean of 0 and 3
    tensor([1.5000])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    alone = [_number(accuracy(tau), n) for n, tau in enumerate(taus)]
    best, *others = sorted(range(len(taus)), key=lambda n: -alone[n])
    soup, reached = [taus[best]], alone[best]
    for n in others:
        with_n = _number(accuracy(_mean([*soup, taus[n]])), n)
        if with_n > reached:
            soup, reached = [*soup, taus[n]], with_n
    return _mean(soup)


def _mean(taus: Sequence[Params]) -> dict[str, Tensor]:
    return {key: (total(taus, key) / len(taus)).to(taus[0][key].dtype) for key in taus[0]}


def _number(value: float, n: int) -> float:
    if value != value:
        raise ValueError(f"accuracy with run {n}: got NaN, expected a number")
    return value
