"""Exercises of notebook 07: LoRA updates, gamma, rank masks, the singular gauge, KnOTS' common basis."""

import torch

from ..exercise import SHAPES, Exercise, OpenTask, Quiz


def _t(*rows: list | float) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)  # seeded before each law


def _components(A: torch.Tensor, B: torch.Tensor) -> list[torch.Tensor]:
    """The r matrices b_k a_k^T: what a rank *is*, whatever the signs of its two vectors."""
    return [torch.outer(b, a) for b, a in zip(B.T, A, strict=True)]


# ---------------------------------------------------------------------------- 07.1

dense = Exercise(
    id="07.1",
    errors={SHAPES: "A reads the inputs, (r, in), B writes the outputs, (out, r): only one order of the two fits."},
    title="dW, once",
    goal=(
        "Two thin factors and a number `alpha` come out of a LoRA file. Form the update of the weight. The rank r is "
        "in the factors; `alpha` is not the scale itself: $s = \\alpha / r$, in rsLoRA $s = \\alpha / \\sqrt{r}$."
    ),
    minutes=5,
    difficulty=1,
    importance=5,
    hints=[
        "Which side of the weight does each factor touch: A reads (r, in), B writes (out, r)?",
        "r is the side that both factors share: `A.shape[0]`, which is also `B.shape[1]`.",
        "`s = alpha / r**0.5 if rslora else alpha / r`; then `s * B @ A`.",
    ],
)


@dense.solution
def lora_update(A, B, alpha, rslora=False):
    """dW, the update of the weight, scale included.  A: (r, in), B: (out, r), alpha: as in the file -> (out, in)"""
    r = A.shape[0]
    s = alpha / r**0.5 if rslora else alpha / r
    return s * B @ A


A_1, B_1 = _t([1.0, 2.0]), _t([3.0], [0.0], [1.0])
A_2, B_2 = _t([1.0, 0.0, 2.0], [0.0, 1.0, 1.0]), _t([1.0, 0.0], [2.0, -1.0])
A_4, B_4 = _t(*(torch.arange(12.0).view(4, 3) - 5).tolist()), _t([1.0, 2.0, 0.0, -1.0], [0.0, 1.0, 3.0, 1.0])


@dense.law("rank 1, by hand: an outer product, times alpha")
def _(lora_update):
    return lora_update(A_1, B_1, 0.5), _t([1.5, 3.0], [0.0, 0.0], [0.5, 1.0])


@dense.law("rank 2, by hand: two outer products are added, times alpha / 2")
def _(lora_update):
    return lora_update(A_2, B_2, 6.0), 3.0 * _t([1.0, 0.0, 2.0], [2.0, -1.0, 3.0])


@dense.law("B = 0, as when training starts: no update at all")
def _(lora_update):
    return lora_update(A_2, 0 * B_2, 6.0), torch.zeros(2, 3)


@dense.law("rsLoRA with r = 4 divides by 2, not by 4")
def _(lora_update):
    return lora_update(A_4, B_4, 4.0, rslora=True), 2 * B_4 @ A_4


@dense.law("without rsLoRA, r = 4 and alpha = 4 give the plain product")
def _(lora_update):
    return lora_update(A_4, B_4, 4.0), B_4 @ A_4


@dense.law("alpha is not the rank: r = 4 and alpha = 8, both ways; r = 2 and alpha = 6")
def _(lora_update):
    got = [lora_update(A_4, B_4, 8.0), lora_update(A_4, B_4, 8.0, rslora=True), lora_update(A_2, B_2, 6.0, rslora=True)]
    return got, [2 * B_4 @ A_4, 4 * B_4 @ A_4, 6 / 2**0.5 * B_2 @ A_2]


@dense.law("another pair with the same product, (M A, B M^-1), is the same update")
def _(lora_update):
    M = _t([2.0, 1.0], [1.0, 1.0])
    return lora_update(M @ A_2, B_2 @ M.inverse(), 3.0), lora_update(A_2, B_2, 3.0)


@dense.mistake("The scale is missing. A LoRA update is s B A, and s = alpha / r comes from the file's configuration.")
def no_scale(A, B, alpha, rslora=False):
    return B @ A


@dense.mistake("You multiply by alpha itself. Divide it by the rank first: s = alpha / r.")
def alpha_is_the_scale(A, B, alpha, rslora=False):
    return alpha * B @ A


@dense.mistake("You divide by the number of inputs. r is the number of *rows* of A: `A.shape[0]`.")
def divided_by_inputs(A, B, alpha, rslora=False):
    return alpha / A.shape[1] * B @ A


@dense.mistake("`rslora` is ignored: with it, s = alpha / sqrt(r).")
def never_rslora(A, B, alpha, rslora=False):
    return alpha / A.shape[0] * B @ A


@dense.mistake("You take the root of alpha as well. In rsLoRA only the rank is under it: alpha / sqrt(r).")
def root_of_both(A, B, alpha, rslora=False):
    s = alpha / A.shape[0]
    return (s**0.5 if rslora else s) * B @ A


@dense.mistake("You always divide by sqrt(r). That is rsLoRA; the ordinary scale is alpha / r.")
def always_rslora(A, B, alpha, rslora=False):
    return alpha / A.shape[0] ** 0.5 * B @ A


@dense.mistake("Your update is transposed: (in, out). PyTorch stores a weight as (out, in), so B comes first.")
def transposed(A, B, alpha, rslora=False):
    return lora_update(A, B, alpha, rslora).T


@dense.mistake("You form the first component only. All r of them are added: that is what the product B A does.")
def first_component_only(A, B, alpha, rslora=False):
    return lora_update(A, B, alpha, rslora) * 0 + alpha / A.shape[0] * torch.outer(B[:, 0], A[0])


# ---------------------------------------------------------------------------- 07.2

gamma_exercise = Exercise(
    id="07.2",
    title="gamma without forming dW",
    kind="design",
    goal=(
        "Autograd gives you `dR_dB` = $\\partial R / \\partial B$, a matrix as thin as B. You want all the "
        "$\\gamma_k = b_k^T G\\, a_k$, where $G = \\partial R / \\partial \\Delta W$ is as large as the weight. "
        "Get them from `dR_dB` alone: no matrix of shape (out, in) may be formed."
    ),
    minutes=10,
    difficulty=3,
    importance=5,
    hints=[
        "The update is $s B A$. If B changes by $dB$, by how much does $\\Delta W$ change, and R?",
        "$\\partial R / \\partial B = s\\, G A^T$. So column k of `dR_dB` is $s\\, G a_k$. What is missing for "
        "$b_k^T G a_k$?",
        "`(B * dR_dB).sum(dim=0) / s`: the dot product of each column of B with its own column of `dR_dB`.",
    ],
)


@gamma_exercise.solution
def gamma(B, dR_dB, s=1.0):
    """gamma_k = b_k^T G a_k for each rank k.  B: (out, r), dR_dB = s G A^T: (out, r), s: scale -> (r,)"""
    return (B * dR_dB).sum(dim=0) / s


@gamma_exercise.law("one rank, by hand: 2 * 3 + 1 * 4")
def _(gamma):
    return gamma(_t([2.0], [1.0]), _t([3.0], [4.0])), torch.tensor([10.0])


@gamma_exercise.law("two ranks, each with its own sign")
def _(gamma):
    return gamma(_t([2.0, 1.0], [1.0, 0.0], [0.0, 3.0]), _t([3.0, -1.0], [4.0, 5.0], [7.0, -2.0])), _t(10.0, -7.0)


@gamma_exercise.law("the same G seen through a scale s = 0.5: dR_dB is half as large, gamma is the same")
def _(gamma):
    return gamma(_t([2.0, 1.0], [1.0, 0.0]), 0.5 * _t([3.0, -1.0], [4.0, 5.0]), s=0.5), _t(10.0, -1.0)


@gamma_exercise.law("against the definition: b_k^T G a_k, one by one, for random G, A, B and s = 2")
def _(gamma):
    G, A, B = _random(5, 4), _random(3, 4), _random(5, 3)
    return gamma(B, 2.0 * G @ A.T, s=2.0), torch.stack([b @ G @ a for a, b in zip(A, B.T, strict=True)])


@gamma_exercise.law("a rank that is pruned, b_k = 0, has gamma 0")
def _(gamma):
    return gamma(_t([0.0, 1.0], [0.0, 2.0]), _t([5.0, 1.0], [5.0, 1.0])), _t(0.0, 3.0)


@gamma_exercise.law("b_k times 10 and a_k divided by 10 is the same component: gamma does not change")
def _(gamma):
    G, A, B, size = _random(4, 3), _random(2, 3), _random(4, 2), torch.tensor([10.0, -0.5], dtype=torch.float64)
    return gamma(B * size, G @ (A / size[:, None]).T), gamma(B, G @ A.T)


@gamma_exercise.mistake("The scale is still in it: dR_dB = s G A^T. Divide by s.")
def scale_left_in(B, dR_dB, s=1.0):
    return (B * dR_dB).sum(dim=0)


@gamma_exercise.mistake("You multiply by s. It is in dR_dB once already, so divide by it.")
def scale_twice(B, dR_dB, s=1.0):
    return s * (B * dR_dB).sum(dim=0)


@gamma_exercise.mistake("You sum over the ranks. Sum over the outputs, `dim=0`: one number for each rank is asked for.")
def one_number_per_output(B, dR_dB, s=1.0):
    return (B * dR_dB).sum(dim=1) / s


@gamma_exercise.mistake(
    "B^T dR_dB has all pairs of ranks, (r, r), at r times the cost. Only its diagonal is asked for: multiply entry by "
    "entry, then sum over the outputs."
)
def all_pairs(B, dR_dB, s=1.0):
    return B.T @ dR_dB / s


@gamma_exercise.mistake("gamma has a sign: without absolute value. |gamma eta| is taken at the very end.")
def absolute(B, dR_dB, s=1.0):
    return (B * dR_dB).sum(dim=0).abs() / s


@gamma_exercise.mistake("You take absolute values before the sum: outputs may cancel each other within a rank.")
def absolute_before_the_sum(B, dR_dB, s=1.0):
    return (B * dR_dB).abs().sum(dim=0) / s


@gamma_exercise.mistake("b_k is missing: this sums s G a_k over the outputs. Weight each output by its entry of b_k.")
def without_b(B, dR_dB, s=1.0):
    return dR_dB.sum(dim=0) / s


@gamma_exercise.mistake("You add up all ranks: that is gamma of the whole update. Each rank has its own.")
def one_number(B, dR_dB, s=1.0):
    return (B * dR_dB).sum() / s


# ---------------------------------------------------------------------------- 07.3

mask = Exercise(
    id="07.3",
    title="Prune ranks, keep the format",
    kind="decide",
    goal=(
        "Keep the `keep` ranks with the highest S, exactly as many also at a tie, and set the others to zero, in "
        "**both** "
        "factors. Whoever loads the adapter expects the shapes and dtypes that its configuration names, so they must "
        "not "
        "change."
    ),
    minutes=10,
    difficulty=2,
    importance=5,
    hints=[
        "Rank k lives in row k of A and in column k of B. What must happen to each?",
        "Make a vector m of r zeros, put 1 at the `keep` largest S (`topk` gives exactly as many, also at a tie).",
        "`m = torch.zeros_like(S)`; `m[S.topk(keep).indices] = 1`; then `m[:, None] * A` and `B * m`.",
    ],
)


@mask.solution
def prune_ranks(A, B, S, keep):
    """(A, B) with the other ranks set to zero.  A: (r, in), B: (out, r), S: (r,), keep: 0..r -> same shapes"""
    m = torch.zeros_like(S).to(A.dtype)
    m[S.topk(keep).indices] = 1
    return m[:, None] * A, B * m


A_3 = _t([1.0, 2.0], [3.0, 4.0], [5.0, 6.0])
B_3 = _t([1.0, 0.5, 2.0], [0.0, 1.0, 1.0], [2.0, 2.0, -1.0], [1.0, 1.0, 1.0])
S_3 = torch.tensor([0.2, 3.0, 1.0], dtype=torch.float64)


@mask.law("rank 1 of 2 survives, by hand")
def _(prune_ranks):
    got = prune_ranks(_t([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]), _t([7.0, 8.0]), _t(0.1, 9.0), 1)
    return got, (_t([0.0, 0.0, 0.0], [4.0, 5.0, 6.0]), _t([0.0, 8.0]))


@mask.law("keep = r changes nothing")
def _(prune_ranks):
    return prune_ranks(A_3, B_3, S_3, 3), (A_3, B_3)


@mask.law("2 of 3: the product is the sum of the two components that are kept")
def _(prune_ranks):
    A, B = prune_ranks(A_3, B_3, S_3, 2)
    return B @ A, sum(_components(A_3, B_3)[1:])


@mask.law("2 of 3: shapes as before, zeros in row and column 0")
def _(prune_ranks):
    A, B = prune_ranks(A_3, B_3, S_3, 2)
    return [list(A.shape), list(B.shape), A[0], B[:, 0]], [[3, 2], [4, 3], torch.zeros(2), torch.zeros(4)]


@mask.law("at a tie exactly `keep` ranks are left")
def _(prune_ranks):
    A, _ = prune_ranks(A_3, B_3, torch.ones(3, dtype=torch.float64), 2)
    return int(A.any(dim=1).sum()), 2


@mask.law("an adapter in float32 stays in float32, whatever S is in")
def _(prune_ranks):
    A, B = prune_ranks(A_3.float(), B_3.float(), S_3, 2)
    return [str(A.dtype), str(B.dtype)], ["torch.float32", "torch.float32"]


@mask.law("survivors are neither scaled nor moved")
def _(prune_ranks):
    A, B = prune_ranks(A_3, B_3, S_3, 1)
    return [A[1], B[:, 1]], [A_3[1], B_3[:, 1]]


def _best(S: torch.Tensor, keep: int) -> torch.Tensor:
    return S.topk(keep).indices.sort().values


@mask.mistake(
    "You cut the ranks out, so the shapes change: the configuration says another r, and the adapter does not load. "
    "Zeros keep the format."
)
def cut_out(A, B, S, keep):
    return A[_best(S, keep)], B[:, _best(S, keep)]


@mask.mistake(
    "You clear A only. The product is right, but b_k is still stored: whoever goes on training revives the rank. "
    "Clear column k of B as well."
)
def only_A(A, B, S, keep):
    return prune_ranks(A, B, S, keep)[0], B.clone()


@mask.mistake(
    "The mask is float64 as S is, and makes the adapter float64 too. Bring it to the dtype of A: `m.to(A.dtype)`."
)
def dtype_of_S(A, B, S, keep):
    m = torch.zeros_like(S)
    m[S.topk(keep).indices] = 1
    return m[:, None] * A, B * m


@mask.mistake("You clear B only. Row k of A belongs to the same rank: clear it as well.")
def only_B(A, B, S, keep):
    return A.clone(), prune_ranks(A, B, S, keep)[1]


@mask.mistake("You keep the *least* salient ranks. `topk` of S, not of -S.")
def least_salient_kept(A, B, S, keep):
    return prune_ranks(A, B, -S, keep)


@mask.mistake("A threshold keeps every rank that equals it: a tie gives more than `keep`. `topk` gives exactly `keep`.")
def ties_kept_all(A, B, S, keep):
    m = (S >= S.sort(descending=True).values[keep - 1]).to(A.dtype)
    return m[:, None] * A, B * m


@mask.mistake("You scale up what is left, as DARE does. SA-Merging keeps the survivors as they are.")
def rescaled(A, B, S, keep):
    A, B = prune_ranks(A, B, S, keep)
    return A * len(S) / keep, B


@mask.mistake("`keep` is how many stay, and you prune as many.")
def keep_is_pruned(A, B, S, keep):
    return prune_ranks(A, B, S, len(S) - keep)


@mask.mistake(
    "The survivors are in front now, in order of S. The product is right, but leave every rank in its place: then the "
    "result can be laid beside the file it came from."
)
def moved_to_the_front(A, B, S, keep):
    order = S.argsort(descending=True)
    m = (torch.arange(len(S)) < keep).to(A.dtype)
    return m[:, None] * A[order], B[:, order] * m


# ---------------------------------------------------------------------------- 07.4

gauge = Exercise(
    id="07.4",
    errors={
        SHAPES: "`torch.linalg.qr` of a tall matrix (n, r) gives (n, r) and (r, r). B is tall, A is not: A.T is.",
        "LinAlgError": "The SVD failed: is there a NaN or an infinity in what you gave it?",
    },
    title="A gauge to agree on",
    kind="design",
    goal=(
        "Among all pairs with the same product, one is special: its components are the singular ones. The rows of A "
        "are orthogonal to each other, so are the columns of B, row k and column k are equally long, "
        "$\\sqrt{\\sigma_k}$ each, and the largest comes first. Find it **without forming B A**, which may be a "
        "thousand times as large as the factors: the checks look at the shapes of all that you compute. A QR "
        "decomposition writes a tall matrix as orthonormal columns times a small triangle. Shapes as before."
    ),
    minutes=15,
    difficulty=4,
    importance=3,
    hints=[
        "`torch.linalg.qr` writes a tall matrix as Q R: orthonormal columns times a small (r, r) matrix. "
        "Which of B and A is tall?",
        "$B A = Q_B\\, (R_B R_A^T)\\, Q_A^T$. The matrix in the middle is (r, r): take *its* SVD.",
        "`U, S, Vt = torch.linalg.svd(R_B @ R_A.T)`; then `A = S.sqrt()[:, None] * (Vt @ Q_A.T)` and "
        "`B = (Q_B @ U) * S.sqrt()`.",
    ],
)


@gauge.solution
def singular_gauge(A, B):
    """(A', B') with B' A' = B A, orthogonal rows / columns of length sqrt(sigma_k), the largest sigma first.

    A: (r, in), B: (out, r), r <= in, r <= out -> the same shapes
    """
    (Q_B, R_B), (Q_A, R_A) = torch.linalg.qr(B), torch.linalg.qr(A.T)
    U, S, Vt = torch.linalg.svd(R_B @ R_A.T)
    return S.sqrt()[:, None] * (Vt @ Q_A.T), (Q_B @ U) * S.sqrt()


A_G, B_G = _t([2.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 2.0]), _t([1.0, 0.0], [2.0, 1.0], [0.0, -3.0])


@gauge.law("two components along the axes, the smaller first: they are swapped and evenly split")
def _(singular_gauge):
    A, B = singular_gauge(_t([0.0, 1.0, 0.0], [2.0, 0.0, 0.0]), _t([4.0, 0.0], [0.0, 8.0]))
    return [A.abs(), B.abs()], [_t([4.0, 0.0, 0.0], [0.0, 2.0, 0.0]), _t([0.0, 2.0], [4.0, 0.0])]


class _Watch(torch.overrides.TorchFunctionMode):
    """Notes the shape of every tensor that torch computes."""

    def __init__(self):
        super().__init__()
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for t in result if isinstance(result, tuple) else (result,):
            if isinstance(t, torch.Tensor):
                self.shapes.add(tuple(t.shape))
        return result


@gauge.law("no matrix as large as the weight is formed, (7, 5) or (5, 7) for factors (2, 5) and (7, 2)")
def _(singular_gauge):
    A, B = _random(2, 5), _random(7, 2)
    with _Watch() as watch:
        singular_gauge(A, B)
    return sorted(watch.shapes & {(7, 5), (5, 7)}), []


@gauge.law("the product is the same")
def _(singular_gauge):
    A, B = singular_gauge(A_G, B_G)
    return B @ A, B_G @ A_G


@gauge.law("rows of A are orthogonal, and their squared lengths are the singular values")
def _(singular_gauge):
    A, _ = singular_gauge(A_G, B_G)
    return A @ A.T, torch.linalg.svdvals(B_G @ A_G)[:2].diag()


@gauge.law("so are the columns of B")
def _(singular_gauge):
    _, B = singular_gauge(A_G, B_G)
    return B.T @ B, torch.linalg.svdvals(B_G @ A_G)[:2].diag()


@gauge.law("whichever gauge you start from, the components b_k a_k^T are the same")
def _(singular_gauge):
    M = _t([1.0, 3.0], [-2.0, 0.5])
    return _components(*singular_gauge(M @ A_G, B_G @ M.inverse())), _components(*singular_gauge(A_G, B_G))


@gauge.mistake(
    "The right factors, but by way of B A: for a layer of 4096 x 4096 that is 16 million numbers and a slow SVD. QR "
    "of B "
    "and of A.T, then the SVD of the small (r, r) matrix in the middle."
)
def by_way_of_the_product(A, B):
    U, S, Vt = torch.linalg.svd(B @ A, full_matrices=False)
    r = A.shape[0]
    return S[:r].sqrt()[:, None] * Vt[:r], U[:, :r] * S[:r].sqrt()


@gauge.mistake("All of S sits in B, none in A. That is a gauge too (PEFT's `svd` writes it), but split it evenly.")
def all_in_B(A, B):
    A, B = gauge.reference(A, B)
    root = A.norm(dim=1)
    return A / root[:, None], B * root


@gauge.mistake("All of S sits in A, none in B. Split it evenly: sqrt(S) to each.")
def all_in_A(A, B):
    A, B = gauge.reference(A, B)
    root = A.norm(dim=1)
    return A * root[:, None], B / root


@gauge.mistake("Both factors carry S, so the product has S twice. Each gets sqrt(S).")
def S_twice(A, B):
    A, B = gauge.reference(A, B)
    root = A.norm(dim=1)
    return A * root[:, None], B * root


@gauge.mistake("The singular values are lost: B' A' has ones in their place. Each factor gets sqrt(S).")
def S_lost(A, B):
    A, B = gauge.reference(A, B)
    root = A.norm(dim=1)
    return A / root[:, None], B / root


@gauge.mistake("You made the rows of A orthonormal and let B take the rest: but B's columns are not orthogonal.")
def qr_of_A_only(A, B):
    Q, R = torch.linalg.qr(A.T)
    return Q.T, B @ R.T


@gauge.mistake(
    "You split the sizes evenly but leave the directions as they are. Ranks must be *mixed* to become orthogonal: the "
    "SVD of the small matrix in the middle says how."
)
def sizes_only(A, B):
    root = (B.norm(dim=0) / A.norm(dim=1)).sqrt()
    return root[:, None] * A, B / root


@gauge.mistake("The smallest singular value comes first. `torch.linalg.svd` gives them largest first: keep its order.")
def smallest_first(A, B):
    A, B = gauge.reference(A, B)
    return A.flip(0), B.flip(1)


@gauge.mistake("You take the SVD of A and of B one by one. It is the *product* whose singular vectors are asked for.")
def each_by_itself(A, B):
    return torch.linalg.svd(A, full_matrices=False).Vh, torch.linalg.svd(B, full_matrices=False).U


# ---------------------------------------------------------------------------- 07.5

basis = Exercise(
    id="07.5",
    errors={
        SHAPES: "The updates lie side by side, (out, N in): U has `out` rows, and the blocks are cut from Vt.",
        "LinAlgError": "The SVD failed: is there a NaN or an infinity in what you gave it?",
    },
    title="KnOTS: one basis for all experts",
    goal=(
        "Write the N updates of a layer in **one** orthonormal basis of the outputs: put them side by side, "
        "take one SVD, $[\\tau_1 \\dots \\tau_N] = U \\,\\mathrm{diag}(S)\\, V^T$, and cut $\\mathrm{diag}(S)\\, V^T$ "
        "into N blocks. Drop directions with $S \\le$ `cutoff`."
    ),
    minutes=10,
    difficulty=3,
    importance=4,
    hints=[
        "All updates write to the same outputs: rows. Along which dimension do you put them side by side?",
        "`torch.linalg.svd(torch.cat(taus, dim=1), full_matrices=False)`; then keep the first k, "
        "k = how many S exceed the cutoff.",
        "`(S[:k, None] * Vt[:k]).chunk(len(taus), dim=1)` are the blocks; `U[:, :k]` is the basis.",
    ],
)


@basis.solution
def common_basis(taus, cutoff=1e-5):
    """U (out, k) with orthonormal columns, and blocks (k, in), one a task, with U @ block_n = tau_n.

    taus: list of N tensors (out, in) -> (U, list of N tensors)
    """
    U, S, Vt = torch.linalg.svd(torch.cat(taus, dim=1), full_matrices=False)
    k = int((S > cutoff).sum())
    return U[:, :k], list((S[:k, None] * Vt[:k]).chunk(len(taus), dim=1))


TAU_1 = torch.outer(torch.tensor([1.0, 2.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, -1.0])).double()
TAU_2 = torch.outer(torch.tensor([0.0, 1.0, 3.0, 0.0]), torch.tensor([2.0, 1.0, 0.0])).double()


@basis.law("two updates that write to one output each: two directions, by hand")
def _(common_basis):
    U, blocks = common_basis([_t([0.0, 0.0, 0.0], [5.0, 0.0, 0.0]), _t([0.0, 2.0, 0.0], [0.0, 0.0, 0.0])])
    return [U.abs(), *[b.abs() for b in blocks]], [
        _t([0.0, 1.0], [1.0, 0.0]),
        _t([5.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        _t([0.0, 0.0, 0.0], [0.0, 2.0, 0.0]),
    ]


@basis.law("nothing is lost: U times each block is the update again")
def _(common_basis):
    U, blocks = common_basis([TAU_1, TAU_2])
    return [U @ block for block in blocks], [TAU_1, TAU_2]


@basis.law("two updates of rank 1 span two directions of the four: U is (4, 2), blocks are (2, 3)")
def _(common_basis):
    U, blocks = common_basis([TAU_1, TAU_2])
    return [list(U.shape), *[list(b.shape) for b in blocks]], [[4, 2], [2, 3], [2, 3]]


@basis.law("no update at all: no direction, also at cutoff 0")
def _(common_basis):
    U, blocks = common_basis([torch.zeros(2, 3), torch.zeros(2, 3)], cutoff=0.0)
    return [list(U.shape), *[list(b.shape) for b in blocks]], [[2, 0], [0, 3], [0, 3]]


@basis.law("the columns of U are orthonormal")
def _(common_basis):
    U, _ = common_basis([TAU_1, TAU_2, TAU_1 - TAU_2])
    return U.T @ U, torch.eye(2)


@basis.law("inner products between blocks are those between the updates")
def _(common_basis):
    _, (a, b) = common_basis([TAU_1, TAU_2])
    return [a.T @ b, a.T @ a], [TAU_1.T @ TAU_2, TAU_1.T @ TAU_1]


@basis.law("a cutoff above the second singular value leaves one direction")
def _(common_basis):
    U, _ = common_basis([_t([3.0, 0.0, 0.0], [0.0, 0.0, 1.0])], cutoff=2.0)
    return U.abs(), _t([1.0], [0.0])


@basis.mistake(
    "You stack the updates on top of each other. That gives a common basis of the *inputs*; KnOTS shares the outputs: "
    "`dim=1`."
)
def stacked_on_top(taus, cutoff=1e-5):
    U, S, Vt = torch.linalg.svd(torch.cat(taus, dim=0), full_matrices=False)
    k = int((S > cutoff).sum())
    return Vt[:k].T, list((U[:, :k] * S[:k]).T.chunk(len(taus), dim=1))


@basis.mistake("S is missing in the blocks: V^T alone forgets how large each direction is.")
def without_S(taus, cutoff=1e-5):
    U, S, Vt = torch.linalg.svd(torch.cat(taus, dim=1), full_matrices=False)
    k = int((S > cutoff).sum())
    return U[:, :k], list(Vt[:k].chunk(len(taus), dim=1))


@basis.mistake("S sits in U. Then its columns are not orthonormal, and small directions look as large as large ones.")
def S_in_U(taus, cutoff=1e-5):
    U, S, Vt = torch.linalg.svd(torch.cat(taus, dim=1), full_matrices=False)
    k = int((S > cutoff).sum())
    return U[:, :k] * S[:k], list(Vt[:k].chunk(len(taus), dim=1))


@basis.mistake("Directions without any update are still there. Keep only those whose S exceeds the cutoff.")
def cutoff_ignored(taus, cutoff=1e-5):
    U, S, Vt = torch.linalg.svd(torch.cat(taus, dim=1), full_matrices=False)
    return U, list((S[:, None] * Vt).chunk(len(taus), dim=1))


@basis.mistake("The cutoff you use is fixed. It is an argument.")
def fixed_cutoff(taus, cutoff=1e-5):
    return common_basis(taus)


@basis.mistake("That is the basis of the first task alone: what others do outside it is lost. Put all side by side.")
def basis_of_the_first(taus, cutoff=1e-5):
    U, S, _ = torch.linalg.svd(taus[0], full_matrices=False)
    U = U[:, : int((S > cutoff).sum())]
    return U, [U.T @ tau for tau in taus]


@basis.mistake("That is the basis of the *sum*. Directions in which the tasks cancel are lost: put them side by side.")
def basis_of_the_sum(taus, cutoff=1e-5):
    U, S, _ = torch.linalg.svd(sum(taus), full_matrices=False)
    U = U[:, : int((S > cutoff).sum())]
    return U, [U.T @ tau for tau in taus]


EXERCISES = [dense, gamma_exercise, mask, gauge, basis]

QUIZZES = [
    Quiz(
        "07.q1",
        "Somebody stores an adapter (A, B), you store the same expert as (-A, -B). You merge the two with PEFT's "
        "`linear` and weights 1. What is the merged update, if s = 1?",
        right="b",
        a=(
            "2 B A",
            "That is what a sum of the *updates* gives, and what `cat` and `svd` return.",
        ),
        b=(
            "Zero",
            "Yes: A - A = 0 and B - B = 0. The cross terms -B A - B A cancel the two updates exactly.",
        ),
        c=(
            "4 B A",
            "That comes out if both files hold (A, B): (2 B)(2 A). The true sum is 2 B A in either case.",
        ),
    ),
    Quiz(
        "07.q2",
        "Eight adapters of rank 16 for a weight of 160 x 160 are merged with `cat`. What does the result cost, beside "
        "the dense update of 25600 numbers?",
        right="a",
        a=(
            "More: 40960 numbers.",
            "Yes, 128 * (160 + 160). `cat` is exact and keeps the format, but ranks add up: 8 * 16 = 128.",
        ),
        b=(
            "A fifth: 5120 numbers.",
            "That is one adapter: 16 * 320 = 5120 numbers. Eight of them side by side are eight times that.",
        ),
        c=(
            "As much: 25600 numbers.",
            "Only if it were multiplied out. The file holds the factors, of rank 8 * 16 = 128.",
        ),
    ),
    Quiz(
        "07.q3",
        "An expert is stored in another gauge, (M A, B M^-1). For which M does SA-Merging's rank score prune the same "
        "components as before?",
        right="c",
        a=(
            "For every M that has an inverse, since the update is the same.",
            "The update is, the components b_k a_k^T are not. The score judges components.",
        ),
        b=(
            "For every rotation M, since all lengths and angles are kept.",
            "A rotation mixes ranks. Each new component is a blend of old ones, and nothing can prune an old one.",
        ),
        c=(
            "For every M that has one entry in each row and each column.",
            "Yes: it reorders and rescales. What b_k gains a_k loses, and the component stays what it was.",
        ),
    ),
]

OPEN = [
    OpenTask(
        "07.open",
        "a budget of numbers",
        "Eight adapters of rank 16 must become one file of at most the size of *two* of them. Propose two ways "
        "(ranks pruned "
        "before the merge, an SVD after it, one basis for all, ...), say which you expect to win and why, and "
        "measure both.",
        [
            "The budget is counted in numbers stored, for both ways alike, and printed.",
            "The prediction has a reason that could be wrong: where do the updates overlap?",
            "lam is chosen on validation for each way; the dense sum is shown as the bound.",
            "It says what the result depends on: gauge, rank of the experts, number of experts.",
        ],
    )
]
