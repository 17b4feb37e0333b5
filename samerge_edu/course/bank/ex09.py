"""Exercises of notebook 09: truncation, overlapping directions, whitening, a flat spectrum, least squares, Grams."""

import torch

from ..exercise import Exercise, OpenTask, Quiz

WIDE = torch.tensor([[3.0, 1.0, 0.0, -2.0], [0.5, -1.0, 4.0, 1.0], [2.0, 0.0, 1.0, 1.5]])  # (3, 4)
TALL = WIDE.T.contiguous()

# ---------------------------------------------------------------------------- 09.1

truncating = Exercise(
    id="09.1",
    title="Keep k directions",
    goal="The best matrix of rank k: keep the k largest singular triplets of M, at their full strength.",
    minutes=10,
    difficulty=2,
    importance=5,
    hints=[
        "M is a sum of r matrices of rank 1, `S[i] * outer(U[:, i], Vt[i])`. Which of them do you keep?",
        "`U, S, Vt = torch.linalg.svd(M, full_matrices=False)`: S falls; column i of U and row i of Vt belong to S[i].",
        "`U[:, :k] * S[:k] @ Vt[:k]`: the product with S scales the columns of U.",
    ],
)


@truncating.solution
def truncate(M, k):
    """The matrix of rank k that is nearest to M.  M: (m, n), k: 0..min(m, n) -> (m, n)"""
    U, S, Vt = torch.linalg.svd(M, full_matrices=False)
    return U[:, :k] * S[:k] @ Vt[:k]


@truncating.law("a diagonal by hand: 3 and 2 stay, 1 goes")
def _(truncate):
    M = torch.tensor([[1.0, 0.0, 0.0], [0.0, -3.0, 0.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    return truncate(M, 2), M * torch.tensor([0.0, 1.0, 1.0])


@truncating.law("k = min(m, n) keeps everything")
def _(truncate):
    return truncate(WIDE, 3), WIDE


@truncating.law("k = 0 keeps nothing")
def _(truncate):
    return truncate(TALL, 0), torch.zeros(4, 3)


@truncating.law("what is lost are the tail singular values: |M - M_k|^2 = their sum of squares")
def _(truncate):
    S = torch.linalg.svdvals(WIDE)
    return [(WIDE - truncate(WIDE, k)).square().sum() for k in (1, 2)], [S[k:].square().sum() for k in (1, 2)]


@truncating.law("truncating the transpose is transposing the truncation")
def _(truncate):
    return truncate(TALL, 2), truncate(WIDE, 2).T


@truncating.mistake("You keep the smallest singular values. S falls: the largest stand first, `[:k]`.")
def smallest_kept(M, k):
    U, S, Vt = torch.linalg.svd(M, full_matrices=False)
    r = len(S)
    return U[:, r - k :] * S[r - k :] @ Vt[r - k :]


@truncating.mistake("The singular values are missing: each direction has to come back at its strength S[i].")
def strengths_forgotten(M, k):
    U, _, Vt = torch.linalg.svd(M, full_matrices=False)
    return U[:, :k] @ Vt[:k]


@truncating.mistake("You drop the k largest and keep the rest. k says how many stay.")
def first_k_dropped(M, k):
    U, S, Vt = torch.linalg.svd(M, full_matrices=False)
    return U[:, k:] * S[k:] @ Vt[k:]


@truncating.mistake(
    "You take rows of V. The wires' inputs are the rows of V^T, which `torch.linalg.svd` returns as Vt."
)
def v_for_vt(M, k):
    U, S, Vt = torch.linalg.svd(M, full_matrices=False)
    return U[:, :k] * S[:k] @ Vt.T[:k]


@truncating.mistake("You keep k + 1 triplets: `[:k]` ends before k.")
def one_too_many(M, k):
    U, S, Vt = torch.linalg.svd(M, full_matrices=False)
    return U[:, : k + 1] * S[: k + 1] @ Vt[: k + 1]


@truncating.mistake(
    "You keep the k columns of M with the largest norm. A direction is a mixture of columns: use the SVD."
)
def largest_columns(M, k):
    kept = M.norm(dim=0).topk(k).indices
    return M * torch.zeros(M.shape[1]).scatter(0, kept, 1.0)


@truncating.mistake("You scale what is kept to the old norm. Truncation leaves the strengths as they are.")
def norm_restored(M, k):
    kept = truncate(M, k)
    return kept * M.norm() / kept.norm().clamp(min=1e-12)


# ---------------------------------------------------------------------------- 09.2

interfering = Exercise(
    id="09.2",
    title="Do the directions of two experts overlap?",
    goal="""Measure how far all experts' singular directions, side by side, are from being orthogonal: what is left of
U^T U beside the identity, and what is left of V^T V, with the strengths in between; all magnitudes added.""",
    minutes=10,
    difficulty=3,
    importance=4,
    hints=[
        "For orthonormal columns `U.T @ U` is the identity. What does an entry off the diagonal mean?",
        "Subtract the identity on both sides: `U.T @ U - I` (K, K) and `V.T @ V - I` (K, K), the strengths in between.",
        "`((U.T @ U - I) * S @ (V.T @ V - I)).abs().sum()`",
    ],
)


@interfering.solution
def interference(U, S, V):
    """How loud the directions are in each other's place, 0 if those of one side are orthogonal.

    U: (m, K), S: (K,), V: (n, K): the singular directions of all experts side by side -> float
    """
    identity = torch.eye(len(S))
    return float(((U.T @ U - identity) * S @ (V.T @ V - identity)).abs().sum())


def _columns(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows).T


E = torch.eye(5)
TILTED = _columns([1.0, 0.0, 0.0], [0.6, 0.8, 0.0])  # two columns (3,), cosine 0.6
OTHERS = _columns([0.0, 1.0, 0.0, 0.0], [0.0, 0.8, 0.6, 0.0])  # cosine 0.8
THREE_U = torch.nn.functional.normalize(torch.tensor([[1.0, 2.0, 0.5], [0.0, 1.0, -1.0], [2.0, 0.0, 1.0]]), dim=0)
THREE_V = torch.nn.functional.normalize(
    torch.tensor([[1.0, 0.0, 1.0], [1.0, 3.0, 0.0], [0.0, 1.0, 2.0], [1.0, -1.0, 0.0]]), dim=0
)


@interfering.law("orthogonal directions do not interfere, however strong")
def _(interference):
    return interference(E[:, :2], torch.tensor([5.0, 7.0]), E[:4, 2:4].flip(0)), 0.0


@interfering.law("by hand: overlaps 0.6 and 0.8, strengths 2 and 1 give 0.48 * 2 + 0.48 * 1")
def _(interference):
    return interference(TILTED, torch.tensor([2.0, 1.0]), OTHERS), 1.44


@interfering.law("outputs overlap but inputs do not: an input wakes only one expert, so nothing is counted")
def _(interference):
    return interference(TILTED, torch.tensor([2.0, 1.0]), E[:4, :2]), 0.0


@interfering.law("twice the strength, twice the interference")
def _(interference):
    S = torch.tensor([3.0, 2.0, 1.0])
    return interference(THREE_U, 2 * S, THREE_V), 2 * interference(THREE_U, S, THREE_V)


@interfering.law("turning a direction round on both sides changes nothing: it is the same matrix")
def _(interference):
    S, turn = torch.tensor([3.0, 2.0, 1.0]), torch.tensor([1.0, -1.0, 1.0])
    return interference(THREE_U * turn, S, THREE_V * turn), interference(THREE_U, S, THREE_V)


@interfering.law("three directions, summed in a loop")
def _(interference):
    S, K = torch.tensor([3.0, 2.0, 0.5]), 3
    total = 0.0
    for i in range(K):
        for j in range(K):
            through = [
                S[k] * (THREE_U[:, i] @ THREE_U[:, k]) * (THREE_V[:, k] @ THREE_V[:, j])
                for k in range(K)
                if k not in (i, j)
            ]
            total += abs(float(sum(through, torch.tensor(0.0))))
    return interference(THREE_U, S, THREE_V), total


@interfering.mistake("The identity is not subtracted: a direction's overlap with itself is no interference.")
def with_itself(U, S, V):
    return float(((U.T @ U) * S @ (V.T @ V)).abs().sum())


@interfering.mistake("The strengths S are missing: a weak direction disturbs less.")
def without_strengths(U, S, V):
    identity = torch.eye(len(S))
    return float(((U.T @ U - identity) @ (V.T @ V - identity)).abs().sum())


@interfering.mistake("You look at the outputs U only. Nothing is counted unless the inputs V overlap as well.")
def outputs_only(U, S, V):
    return float(((U.T @ U - torch.eye(len(S))) * S).abs().sum())


@interfering.mistake("You add up signed entries, so overlaps cancel. The 1-norm here sums magnitudes.")
def signed_sum(U, S, V):
    identity = torch.eye(len(S))
    return float(((U.T @ U - identity) * S @ (V.T @ V - identity)).sum())


@interfering.mistake("That is the Frobenius norm, root of the sum of squares. The 1-norm sums the magnitudes.")
def frobenius(U, S, V):
    identity = torch.eye(len(S))
    return float(((U.T @ U - identity) * S @ (V.T @ V - identity)).norm())


@interfering.mistake("`ord=1` of a matrix is its largest column sum. Here all magnitudes are summed: `.abs().sum()`.")
def largest_column(U, S, V):
    identity = torch.eye(len(S))
    return float(torch.linalg.matrix_norm((U.T @ U - identity) * S @ (V.T @ V - identity), ord=1))


@interfering.mistake("You average over the K x K entries. The sum is asked for.")
def averaged(U, S, V):
    identity = torch.eye(len(S))
    return float(((U.T @ U - identity) * S @ (V.T @ V - identity)).abs().mean())


# ---------------------------------------------------------------------------- 09.3

whitening = Exercise(
    id="09.3",
    title="Whiten the directions",
    kind="design",
    goal="Find the orthonormal columns that are nearest to the columns of X: all moved a little, none preferred.",
    minutes=10,
    difficulty=3,
    importance=5,
    hints=[
        "Write X = U diag(S) V^T. What would S be if the columns were orthonormal already?",
        "Keep the directions of X, make all its singular values 1.",
        "`U, S, Vt = torch.linalg.svd(X, full_matrices=False)`; `U @ Vt`.",
    ],
)


@whitening.solution
def orthonormalise(X):
    """The matrix with orthonormal columns that is nearest to X, in squared distance.  X: (m, K), K <= m -> (m, K)"""
    U, _, Vt = torch.linalg.svd(X, full_matrices=False)
    return U @ Vt


@whitening.law("columns that are orthonormal stay")
def _(orthonormalise):
    return orthonormalise(E[:4, [2, 0]]), E[:4, [2, 0]]


@whitening.law("orthogonal columns only change their lengths")
def _(orthonormalise):
    return orthonormalise(_columns([0.0, 3.0, 0.0], [-0.5, 0.0, 0.0])), _columns([0.0, 1.0, 0.0], [-1.0, 0.0, 0.0])


@whitening.law("two columns at 60 degrees: each turns by 15 degrees")
def _(orthonormalise):
    up = torch.tensor([0.0, 30.0, 90.0]).deg2rad()  # one at -30, one at +30 degrees around the first axis
    X = torch.stack([torch.stack([up[1].cos(), -up[1].sin()]), torch.stack([up[1].cos(), up[1].sin()])], dim=1)
    half = torch.tensor(0.5).sqrt()
    X, expected = (
        torch.cat([X, torch.zeros(1, 2)]),
        torch.stack([torch.stack([half, half]), torch.stack([-half, half])]),
    )
    return orthonormalise(X), torch.cat([expected, torch.zeros(1, 2)])


@whitening.law("the result is orthonormal: X^T X = I")
def _(orthonormalise):
    X = orthonormalise(TALL)
    return X.T @ X, torch.eye(3)


@whitening.law("no column is preferred: another order of the columns is only another order of the result")
def _(orthonormalise):
    return orthonormalise(TALL[:, [2, 0, 1]]), orthonormalise(TALL)[:, [2, 0, 1]]


@whitening.law("stretching X as a whole changes nothing")
def _(orthonormalise):
    return orthonormalise(5 * TALL), orthonormalise(TALL)


@whitening.mistake("That is Gram-Schmidt (QR): the first column keeps its place and the last one pays. Turn all alike.")
def gram_schmidt(X):
    Q, R = torch.linalg.qr(X)
    return Q * R.diagonal().sign()


@whitening.mistake(
    "`qr` is Gram-Schmidt, and may flip columns too: orthonormal, but not nearest to X. The SVD gives that."
)
def plain_qr(X):
    return torch.linalg.qr(X).Q


@whitening.mistake("You only give each column length 1. They still overlap.")
def columns_normalised(X):
    return X / X.norm(dim=0)


@whitening.mistake("You return U: orthonormal, but without V^T its columns no longer belong to those of X.")
def directions_only(X):
    return torch.linalg.svd(X, full_matrices=False).U


@whitening.mistake("X (X^T X)^-1 turns the columns too far. Whitening needs the inverse *root* of X^T X: U V^T.")
def inverse_without_root(X):
    return X @ torch.linalg.inv(X.T @ X)


@whitening.mistake("You divide by one number, the norm of X. Each singular value has to become 1.")
def one_scale(X):
    return X / X.norm()


@whitening.mistake("You put the singular values back: that is X again. Set them all to 1.")
def nothing_changed(X):
    U, S, Vt = torch.linalg.svd(X, full_matrices=False)
    return U * S @ Vt


# ---------------------------------------------------------------------------- 09.4

flattening = Exercise(
    id="09.4",
    title="Mend an isotropic spectrum",
    kind="repair",
    goal="""Iso-C for one matrix: every singular direction of the experts' sum gets the mean strength, and directions of
strength 0 count in that mean. A copy of the method that goes round differs in two places. Find and mend both.""",
    minutes=10,
    difficulty=3,
    importance=4,
    hints=[
        "Try it on one expert whose matrix has the strengths 3 and 0, and on two copies of one expert.",
        "Which matrix is decomposed, the sum? And of how many strengths is the mean taken?",
        "`U, S, Vt` of `tau.sum(dim=0)`; the new strength of each direction is `S.mean()`.",
    ],
)


@flattening.solution
def isotropic(tau):
    """The experts' sum, all of whose singular values are replaced by their mean.  tau: (N, out, in) -> (out, in)"""
    U, S, Vt = torch.linalg.svd(tau.sum(dim=0), full_matrices=False)
    return S.mean() * U @ Vt


@flattening.broken
def broken_isotropic(tau):
    """The experts' sum, all of whose singular values are replaced by their mean.  tau: (N, out, in) -> (out, in)"""
    U, S, Vt = torch.linalg.svd(tau.mean(dim=0), full_matrices=False)
    sigma = S[S > 1e-6].mean()
    return sigma * U @ Vt


PAIR = torch.stack([WIDE, torch.tensor([[0.0, 2.0, 1.0, 1.0], [3.0, 0.0, -1.0, 0.5], [1.0, -1.0, 0.0, 2.0]])])


@flattening.law("one expert, diagonal 3 and 1: both become 2")
def _(isotropic):
    tau = torch.tensor([[[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])
    return isotropic(tau), torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])


@flattening.law("two experts, diagonals (4, 1) and (2, -3): the sum has strengths 6 and 2, so sigma is 4")
def _(isotropic):
    tau = torch.tensor([[[4.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [[2.0, 0.0, 0.0], [0.0, -3.0, 0.0]]])
    return isotropic(tau), torch.tensor([[4.0, 0.0, 0.0], [0.0, -4.0, 0.0]])


@flattening.law("all singular values of the result are the mean of those of the sum")
def _(isotropic):
    mean = torch.linalg.svdvals(PAIR.sum(dim=0)).mean()
    return torch.linalg.svdvals(isotropic(PAIR)), mean.expand(3)


@flattening.law("flattening twice changes nothing more")
def _(isotropic):
    once = isotropic(PAIR)
    return isotropic(once[None]), once


@flattening.law("twice the experts' length, twice the result")
def _(isotropic):
    return isotropic(2 * PAIR), 2 * isotropic(PAIR)


@flattening.law("a direction that the sum does not have counts in the mean: strengths 3 and 0 become 1.5")
def _(isotropic):
    tau = torch.tensor([[[3.0, 0.0], [0.0, 0.0], [0.0, 0.0]]])
    return torch.linalg.svdvals(isotropic(tau)), torch.tensor([1.5, 1.5])


@flattening.mistake(
    "It starts from the sum right now. But directions of strength 0 are left out of the mean: sigma is the mean of all "
    "min(out, in) of them."
)
def mean_of_present(tau):
    U, S, Vt = torch.linalg.svd(tau.sum(dim=0), full_matrices=False)
    return S[S > 1e-6].mean() * U @ Vt


@flattening.mistake("All strengths are 1 now, whatever the experts did. Multiply by sigma, the mean singular value.")
def sigma_forgotten(tau):
    U, _, Vt = torch.linalg.svd(tau.sum(dim=0), full_matrices=False)
    return U @ Vt


@flattening.mistake(
    "sigma is mended. But it starts from the mean of the experts, as one public copy does: N times too small. Take "
    "the sum."
)
def mean_not_sum(tau):
    U, S, Vt = torch.linalg.svd(tau.mean(dim=0), full_matrices=False)
    return S.mean() * U @ Vt


@flattening.mistake("You flatten each expert for itself and add afterwards. Add first: the sum's directions count.")
def each_for_itself(tau):
    U, S, Vt = torch.linalg.svd(tau, full_matrices=False)
    return (S.mean(dim=1)[:, None, None] * U @ Vt).sum(dim=0)


@flattening.mistake(
    "That is the root of the mean square, which keeps the Frobenius norm. sigma is the plain mean of S."
)
def root_mean_square(tau):
    U, S, Vt = torch.linalg.svd(tau.sum(dim=0), full_matrices=False)
    return S.square().mean().sqrt() * U @ Vt


@flattening.mistake("Every direction got the strength of the strongest one. Take the mean of S.")
def largest_for_all(tau):
    U, S, Vt = torch.linalg.svd(tau.sum(dim=0), full_matrices=False)
    return S[0] * U @ Vt


@flattening.mistake("You return the plain sum: its spectrum is not flattened.")
def plain_sum(tau):
    return tau.sum(dim=0)


# ---------------------------------------------------------------------------- 09.5

solving = Exercise(
    id="09.5",
    title="Answer all inputs at once",
    goal="Find the one matrix that answers the inputs of all tasks as nearly like their experts as possible.",
    minutes=15,
    difficulty=4,
    importance=5,
    hints=[
        "The sum is quadratic in X. What is its derivative, and where is that 0?",
        "X sum_n C_n = sum_n tau_n C_n. The matrix on the left may be singular: `inv` would fail, `pinv` does not.",
        "`(tau @ C).sum(dim=0) @ torch.linalg.pinv(C.sum(dim=0), hermitian=True)`",
    ],
)


@solving.solution
def solve(tau, C):
    """The matrix X (out, in) with the smallest  sum_n tr((X - tau_n) C_n (X - tau_n)^T).

    tau: (N, out, in), C: (N, in, in), each symmetric; of an input that no C_n knows, X has to be 0 -> (out, in)
    """
    return (tau @ C).sum(dim=0) @ torch.linalg.pinv(C.sum(dim=0), hermitian=True)


TWO = torch.tensor(
    [[[2.0, 1.0, 0.0], [0.0, 1.0, 1.0]], [[1.0, -1.0, 0.5], [3.0, 0.0, 2.0]]], dtype=torch.float64
)  # (2, 2, 3)
_ROWS = torch.tensor(
    [
        [[1.0, 0.5, 0.0], [0.0, 2.0, 1.0], [1.0, 0.0, 1.0], [2.0, 1.0, -1.0]],
        [[0.0, 1.0, 1.0], [1.0, -1.0, 0.0], [3.0, 0.0, 0.5], [0.0, 0.0, 1.0]],
    ],
    dtype=torch.float64,
)
GRAMS = _ROWS.mT @ _ROWS  # (2, 3, 3)


@solving.law("one expert whose inputs go in every direction comes back as it is")
def _(solve):
    return solve(TWO[:1], GRAMS[:1]), TWO[0]


@solving.law("equal Grams: the mean")
def _(solve):
    return solve(TWO, GRAMS[[0, 0]]), TWO.mean(dim=0)


@solving.law("the same inputs, three times as often in the second task: weights 1/4 and 3/4")
def _(solve):
    return solve(TWO, torch.stack([GRAMS[0], 3 * GRAMS[0]])), 0.25 * TWO[0] + 0.75 * TWO[1]


@solving.law("input 1 is seen by task 1 only, input 2 by both, input 3 by nobody: column by column")
def _(solve):
    C = torch.diag_embed(torch.tensor([[2.0, 1.0, 0.0], [0.0, 4.0, 0.0]], dtype=torch.float64))
    expected = torch.stack([TWO[0, :, 0], (TWO[0, :, 1] + 4 * TWO[1, :, 1]) / 5, torch.zeros(2).double()], dim=1)
    return solve(TWO, C), expected


@solving.law("at the optimum the gradient is zero")
def _(solve):
    X = torch.as_tensor(solve(TWO, GRAMS)).clone().requires_grad_(True)
    loss = torch.stack([torch.trace((X - t) @ C @ (X - t).T) for t, C in zip(TWO, GRAMS, strict=True)]).sum()
    return torch.autograd.grad(loss, X)[0], torch.zeros(2, 3)


@solving.law("the order of the experts does not matter")
def _(solve):
    return solve(TWO.flip(0), GRAMS.flip(0)), solve(TWO, GRAMS)


@solving.mistake("That is the plain mean. The C_n weigh the experts, direction by direction of the input.")
def plain_mean(tau, C):
    return tau.mean(dim=0)


@solving.mistake("You left out the (pseudo-)inverse of sum_n C_n: X is multiplied by it on the other side.")
def inverse_forgotten(tau, C):
    return (tau @ C).sum(dim=0)


@solving.mistake("You solve for each expert alone and add up. Sum the C_n before you invert.")
def each_for_itself_solved(tau, C):
    return (tau @ C @ torch.linalg.pinv(C, hermitian=True)).sum(dim=0)


@solving.mistake(
    "You weigh each expert by one number. C_n says more: how much it counts in each direction of the input."
)
def one_number_each(tau, C):
    weight = C.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
    return (weight * tau).sum(dim=0) / weight.sum()


@solving.mistake(
    "You use the diagonal of the C_n only: inputs that come together are not told from inputs that do not."
)
def diagonals_only(tau, C):
    weight = C.diagonal(dim1=1, dim2=2)[:, None, :]
    return (weight * tau).sum(dim=0) / weight.sum(dim=0).clamp(min=1e-12)


@solving.mistake("You add a multiple of the identity before you invert. The exact minimum is asked for: use `pinv`.")
def with_a_ridge(tau, C):
    return (tau @ C).sum(dim=0) @ torch.linalg.inv(C.sum(dim=0) + 0.1 * torch.eye(C.shape[-1], dtype=C.dtype))


# ---------------------------------------------------------------------------- 09.6

weighing = Exercise(
    id="09.6",
    title="Whose wish counts how much",
    kind="design",
    goal="Make stand-ins for the Grams out of the experts' rows, so that an expert gains nothing by being longer.",
    minutes=10,
    difficulty=3,
    importance=5,
    hints=[
        "The rows of tau_n stand in for inputs. What is the Gram of these rows, and how does it grow with tau_n?",
        "Twice the length is four times the Gram. What would you divide by, one number for each expert?",
        "`tau.mT @ tau / tau.square().sum(dim=(1, 2), keepdim=True)`, and zeros where that number is 0",
    ],
)


@weighing.solution
def fair_grams(tau):
    """C_n that says which inputs tau_n's rows know; each expert has 1 to give in all (the trace), however long it is.

    tau: (N, out, in), an expert of zeros knows nothing: zeros -> (N, in, in)
    """
    length = tau.square().sum(dim=(1, 2), keepdim=True)
    return tau.mT @ tau / length.where(length > 0, 1)


@weighing.law("by hand: one row (1, -1), and two rows (3, 0) and (0, 1)")
def _(fair_grams):
    tau = torch.tensor([[[1.0, -1.0], [0.0, 0.0], [0.0, 0.0]], [[3.0, 0.0], [0.0, 0.0], [0.0, 1.0]]])
    return fair_grams(tau), torch.tensor([[[0.5, -0.5], [-0.5, 0.5]], [[0.9, 0.0], [0.0, 0.1]]])


@weighing.law("every expert has 1 to give")
def _(fair_grams):
    return fair_grams(TWO).diagonal(dim1=1, dim2=2).sum(dim=1), torch.ones(2)


@weighing.law("an expert that is stretched gains nothing")
def _(fair_grams):
    return fair_grams(TWO * torch.tensor([5.0, 0.1]).double()[:, None, None]), fair_grams(TWO)


@weighing.law("an expert of zeros has nothing to say")
def _(fair_grams):
    return fair_grams(torch.cat([TWO, torch.zeros(1, 2, 3).double()]))[2], torch.zeros(3, 3)


@weighing.law("the order of the outputs does not matter")
def _(fair_grams):
    return fair_grams(TWO.flip(1)), fair_grams(TWO)


@weighing.mistake("The experts' lengths are not divided out: that is ACTMat, in which a longer expert has more say.")
def not_normalised(tau):
    return tau.mT @ tau


@weighing.mistake("You divide by the norm, not by its square: twice as long is still twice the say.")
def norm_not_squared(tau):
    length = tau.square().sum(dim=(1, 2), keepdim=True).sqrt()
    return tau.mT @ tau / length.where(length > 0, 1)


@weighing.mistake("You divide all experts by one common number. Each has to be divided by its own.")
def common_number(tau):
    return tau.mT @ tau * len(tau) / tau.square().sum()


@weighing.mistake("You give every row length 1: a row that hardly moved then counts like one that moved far.")
def rows_alike(tau):
    rows = torch.nn.functional.normalize(tau, dim=2)
    return rows.mT @ rows / rows.square().sum(dim=(1, 2), keepdim=True).clamp(min=1e-12)


@weighing.mistake("You divide by the Frobenius norm of C_n. Its trace is the squared length of tau_n: that is to be 1.")
def norm_of_the_gram(tau):
    C = tau.mT @ tau
    return C / C.norm(dim=(1, 2), keepdim=True).clamp(min=1e-12)


@weighing.mistake("That is tau tau^T, about outputs. The rows of tau_n stand in for inputs: tau^T tau, (in, in).")
def outputs_for_inputs(tau):
    return tau @ tau.mT / tau.square().sum(dim=(1, 2), keepdim=True).clamp(min=1e-12)


EXERCISES = [truncating, interfering, whitening, flattening, solving, weighing]

QUIZZES = [
    Quiz(
        "09.q1",
        "Expert 2 listens to v_2 and answers with u_2. When does it change what the sum answers to v_1?",
        right="b",
        a=(
            "If v_2 . v_1 and u_2 . u_1 both are not 0.",
            "Look at the formula: the second term has v_2 . v_1 in it, and u_2 only says where it goes.",
        ),
        b=(
            "If v_2 . v_1 is not 0, whatever u_2 . u_1.",
            "Yes. With orthogonal outputs the disturbance lies beside the own answer, and it is still there.",
        ),
        c=(
            "If u_2 . u_1 is not 0, whatever v_2 . v_1.",
            "An input that does not wake expert 2 brings no answer of it, overlapping or not.",
        ),
        d=(
            "Never: matrices add up entry by entry.",
            "They do, and so the answers to one input add up as well.",
        ),
    ),
    Quiz(
        "09.q2",
        "Two experts went in the same direction in one matrix, the second three times as far: tau_2 = 3 tau_1. "
        "What does ACTMat make of them?",
        right="c",
        a=("2 tau_1, as the mean does.", "That is WUDI's answer, which divides the length out of C_n."),
        b=(
            "4 tau_1, as the sum does.",
            "They use the same inputs, so their wishes contradict: adding answers neither.",
        ),
        c=(
            "2.8 tau_1, near the longer.",
            "Yes: C_2 is nine times C_1, so the weights are 1/10 and 9/10: 0.1 + 0.9 x 3.",
        ),
        d=(
            "3 tau_1: the longer one wins.",
            "It has nine times the say, not all of it.",
        ),
    ),
    Quiz(
        "09.q3",
        "The flow brings WUDI's loss down to its minimum. Does the merged model have to become better?",
        right="b",
        a=(
            "Yes, since the inputs of all tasks are then answered as well as one matrix can.",
            "The loss never saw an input: rows of task vectors stand in for them, weak ones as well as strong ones.",
        ),
        b=(
            "No: at the minimum, weak directions are fitted like strong ones.",
            "Yes. Where they are noise, an early stop is better; where they are not, the optimum. Validation decides.",
        ),
        c=(
            "No, because the objective has many local minima and the flow may end in a bad one.",
            "It is quadratic and convex: one minimum, reached from everywhere.",
        ),
    ),
    Quiz(
        "09.q4",
        "The neurons of an MLP are put into another order (rows of c_fc, columns of c_proj). Which method notices?",
        right="a",
        a=(
            "FR, the filter.",
            "Yes: neighbours are no longer neighbours. The network computes the same, its frequencies are others.",
        ),
        b=(
            "TSV-M, whitened.",
            "Singular values and directions only follow the new order: the merged function is the same.",
        ),
        c=("ACTMat, solved.", "The Grams of c_proj follow the new order of its inputs, and so does the solution."),
        d=("Task Arithmetic", "It adds entry by entry: the new order is only a new order."),
    ),
]

OPEN = [
    OpenTask(
        "09.open",
        "a Gram of your own",
        "RegMean, ACTMat, WUDI and TACT differ in C_n alone. Write down a fifth C_n that needs no images, and what it "
        "claims about the inputs of task n. Say before you run it which task should gain by it and which should pay, "
        "then enter it beside the others, and compare with your sentence.",
        [
            "The claim is about inputs (which directions, how strongly), not about accuracy.",
            "It is symmetric and positive, and a direction that no expert uses cannot blow up the solve.",
            "The prediction names tasks, and the result is read task by task, not by the average alone.",
            "A control stands beside it: the same C_n for all experts, which must give the mean.",
        ],
    )
]
