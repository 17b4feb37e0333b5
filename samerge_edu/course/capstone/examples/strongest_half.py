"""Small updates are noise: keep the larger half of each expert's entries, then take the mean."""

import torch

import samerge_edu as se

NAME, AUTHOR = "Strongest half", "Ben Example"
NEEDS = "none"
LAM = 2.0


def larger_half(taus):
    """The half of each task vector that is largest."""
    return se.trim(taus, density=0.5)


def mean(taus):
    """The mean of what is left."""
    return {key: torch.stack([tau[key] for tau in taus]).mean(dim=0) for key in taus[0]}


method = se.pipe(larger_half, mean)
