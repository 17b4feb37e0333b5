"""Where the sum of all updates is much louder in some directions than on average, the quieter experts are drowned: turn
the loud directions down to the average, and leave the others alone."""

import torch

import samerge_edu as se
from samerge_edu.matrices import block_weight, thin_svd

NAME, AUTHOR = "Limiter", "Ada Example"
NEEDS = "none"
LAM = 1.0


def quieter_outside(taus):
    """Outside the blocks' matrices divide by N: there the sum will be the mean."""
    return [{k: v if block_weight(k, v) else v / len(taus) for k, v in tau.items()} for tau in taus]


def limit(M, c=1.0):
    """No direction of M louder than c times the mean of all.  M: (m, n) -> (m, n)"""
    U, S, Vt = thin_svd(M)
    return U * S.clamp(max=c * S.mean().item()) @ Vt


def limited_sum(taus):
    """The sum, its loud directions turned down in the matrices of the blocks."""
    total = {k: torch.stack([tau[k] for tau in taus]).sum(dim=0) for k in taus[0]}
    return {k: limit(v) if block_weight(k, v) else v for k, v in total.items()}


method = se.pipe(quieter_outside, limited_sum)
