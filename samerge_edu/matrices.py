"""Which tensors are matrices, and their singular values: shared by the spectral and least-squares methods."""

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK_WEIGHTS = (
    *("attn.in_proj_weight", "attn.out_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"),  # open_clip
    *("attn.q_proj.weight", "attn.k_proj.weight", "attn.v_proj.weight", "mlp.fc1.weight", "mlp.fc2.weight"),  # HF
    *("attn.qkv.weight", "attn.proj.weight"),  # timm, beside mlp.fc1 and mlp.fc2
    *("self_attention.in_proj_weight", "self_attention.out_proj.weight", "mlp.0.weight", "mlp.3.weight"),  # torchvision
    *("attention.self.query.weight", "attention.self.key.weight", "attention.self.value.weight"),  # RoBERTa
    *("attention.attention.query.weight", "attention.attention.key.weight", "attention.attention.value.weight"),  # ViT
    *("intermediate.dense.weight", "output.dense.weight"),  # both; the second is the attention's, too
    *("SelfAttention.q.weight", "SelfAttention.k.weight", "SelfAttention.v.weight", "SelfAttention.o.weight"),  # T5
    *("ReluDense.wi.weight", "ReluDense.wi_0.weight", "ReluDense.wi_1.weight", "ReluDense.wo.weight"),
    *("attn.o_proj.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight"),  # LLaMA
)
"""How the linear weights of a transformer block are called; q, k and v are one matrix in open_clip, three in HF."""


def not_text_projection(name: str, tensor: Tensor) -> bool:
    """True for every matrix but the text tower's `text_projection`: what TSV-M and Iso publish."""
    return "text_projection" not in name


def block_weight(name: str, tensor: Tensor) -> bool:
    """True for the linear weights inside the transformer blocks: what WUDI and FREE publish."""
    return name.endswith(BLOCK_WEIGHTS)


def thin_svd(
    matrix: Float[Tensor, "*stack m n"], rank: int | None = None
) -> tuple[Float[Tensor, "*stack m r"], Float[Tensor, "*stack r"], Float[Tensor, "*stack r n"]]:
    """M = U diag(S) Vt, largest singular value first: U (..., m, r), S (..., r), Vt (..., r, n), r = min(m, n).

    With `rank`, only the first `rank` triplets. From the eigenvectors of the Gram matrix of the shorter side
    (M^T M = V diag(S^2) V^T, then U = M V / S): the long side enters through products only. Squaring M halves
    the digits that small singular values keep, so it is done in float64, which leaves more of them than a
    float32 SVD does.
    A singular value below 1e-6 of the largest is 0 here, and its two vectors are zero as well: rounding alone
    would choose them, differently on each machine, and the methods that equalise singular values would then
    scale that noise up to full strength.

    >>> U, S, Vt = thin_svd(torch.tensor([[0.0, 2.0], [3.0, 0.0], [0.0, 0.0]]))
    >>> S, (U * S @ Vt)[0]
    (tensor([3., 2.]), tensor([0., 2.]))
    """
    if matrix.shape[-2] < matrix.shape[-1]:
        U, S, Vt = thin_svd(matrix.mT, rank)
        return Vt.mT, S, U.mT
    M = matrix.double()
    V = torch.linalg.eigh(M.mT @ M).eigenvectors.flip(-1)[..., :rank]  # eigh has the smallest first
    MV = M @ V
    S = MV.norm(dim=-2)
    present = S > 1e-6 * S[..., :1]
    U = MV / S.where(present, torch.inf).unsqueeze(-2)
    Vt = (V * present.unsqueeze(-2)).mT
    return U.to(matrix.dtype), (S * present).to(matrix.dtype), Vt.to(matrix.dtype)


def nearest_orthonormal(matrix: Float[Tensor, "*stack m n"]) -> Float[Tensor, "*stack m n"]:
    """The matrix with orthonormal columns (rows, if it is wide) that is closest to M in Frobenius norm: U Vt.

    The solution of the orthogonal Procrustes problem. Directions that M does not have stay 0, so a
    rank-deficient M gives the part of the answer that is unique.

    >>> nearest_orthonormal(torch.tensor([[3.0, 0.0], [0.0, -0.5]]))
    tensor([[ 1.,  0.],
            [ 0., -1.]])
    """
    U, _, Vt = thin_svd(matrix)
    return U @ Vt
