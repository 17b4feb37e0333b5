"""Exercises of notebook 04: what an update adds to R, blocked updates, a ViT block, rank correlation, rewriting."""

import torch

from ..exercise import SHAPES, Exercise, OpenTask, Quiz

# ---------------------------------------------------------------------------- 04.1

lost = Exercise(
    id="04.1",
    title="What an update adds to R",
    kind="decide",
    goal=(
        "R is linear in the *size* of each single weight, with `slope` |G|, what flows in times what flows on. How "
        "much smaller would R be without this one update? Exactly, also where the update turns the weight's sign."
    ),
    minutes=10,
    difficulty=3,
    importance=4,
    hints=[
        "What is the weight with the update, and what without? R sees only their sizes.",
        "An update can make a weight smaller. Then R grows when the update is taken back, and the answer is negative.",
        "`slope * ((theta_0 + tau).abs() - theta_0.abs())`",
    ],
)


@lost.solution
def strength_added(slope, theta_0, tau):
    """R with the update minus R without it, for each entry on its own.

    slope: |G| = dR/d|theta| >= 0, theta_0: weights of the base, tau: updates; all of the same shape -> the same shape
    """
    return slope * ((theta_0 + tau).abs() - theta_0.abs())


def _t(*rows) -> torch.Tensor:
    return torch.tensor(rows)


@lost.law("no update adds nothing")
def _(strength_added):
    return strength_added(_t(2.0), _t(1.0), _t(0.0)), _t(0.0)


@lost.law("a weight of 1 that grows by 0.5, with slope 2")
def _(strength_added):
    return strength_added(_t(2.0), _t(1.0), _t(0.5)), _t(1.0)


@lost.law("0.5 added to a weight of -1 makes it smaller")
def _(strength_added):
    return strength_added(_t(2.0), _t(-1.0), _t(0.5)), _t(-1.0)


@lost.law("an update that turns the sign: from 0.5 to -1.5 is a growth by 1")
def _(strength_added):
    return strength_added(_t(3.0), _t(0.5), _t(-2.0)), _t(3.0)


@lost.law("compared with R of a two-layer network, computed with and without each update")
def _(strength_added):
    W_1, tau = torch.tensor([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]]), torch.tensor([[0.5, 0.5, -2.0], [-1.0, 0.0, 0.1]])
    W_2 = torch.tensor([[2.0, -1.0]])

    def R(W):
        return (W_2.abs() @ W.abs()).sum()

    expected = torch.zeros_like(tau)
    for i in range(2):
        for j in range(3):
            without = W_1 + tau
            without[i, j] = W_1[i, j]
            expected[i, j] = R(W_1 + tau) - R(without)
    return strength_added(W_2.abs().T.expand(2, 3).clone(), W_1, tau), expected


@lost.mistake("R sees sizes: 0.5 added to -1 makes the weight *smaller*. Compare |theta_0 + tau| with |theta_0|.")
def sign_of_the_weight_forgotten(slope, theta_0, tau):
    return slope * tau


@lost.mistake(
    "You return the size of the effect. Its sign says whether the update adds to R or takes from it: keep it."
)
def always_positive(slope, theta_0, tau):
    return (slope * tau).abs()


@lost.mistake(
    "That is the derivative times tau. It is exact until the update turns the weight's sign; then the size bends at 0."
)
def first_order(slope, theta_0, tau):
    return (theta_0 + tau).sign() * slope * tau


@lost.mistake("You assume that the weight keeps the sign of the base. Take sizes: |theta_0 + tau| minus |theta_0|.")
def first_order_at_the_base(slope, theta_0, tau):
    return theta_0.sign() * slope * tau


@lost.mistake("The difference is turned round: with the update minus without it.")
def turned_round(slope, theta_0, tau):
    return slope * (theta_0.abs() - (theta_0 + tau).abs())


@lost.mistake(
    "That is SynFlow's score: what would be lost without the whole *weight*. Here only the update is taken back."
)
def whole_weight(slope, theta_0, tau):
    return slope * (theta_0 + tau).abs()


@lost.mistake("You return the size of the effect. An update that shrinks a weight takes from R: keep the sign.")
def size_of_the_effect(slope, theta_0, tau):
    return (slope * ((theta_0 + tau).abs() - theta_0.abs())).abs()


@lost.mistake("You leave out the slope: the same change of a weight is worth more where more flows through it.")
def slope_forgotten(slope, theta_0, tau):
    return (theta_0 + tau).abs() - theta_0.abs()


# ---------------------------------------------------------------------------- 04.2

dead = Exercise(
    id="04.2",
    title="Which updates are blocked?",
    kind="decide",
    goal=(
        "A layer has h units and `in` inputs. `x` flows into it, `W_next` is the layer behind. Mark the entries of "
        "the layer where *no* update, however large, can change R."
    ),
    minutes=10,
    difficulty=2,
    importance=5,
    hints=[
        "G of entry (i, j) is what flows on from unit i times what flows in at input j. When is a product 0?",
        "Unit i feeds *column* i of `W_next`. It is dead only if that whole column is zero.",
        "`(W_next == 0).all(dim=0)[:, None] | (x == 0)`",
    ],
)


@dead.solution
def blocked(x, W_next):
    """True where G = 0.  x: (in,) what flows in, >= 0;  W_next: (out, h) weights behind the layer -> bool (h, in)"""
    return (W_next == 0).all(dim=0)[:, None] | (x == 0)


def _b(*rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.bool)


@dead.law("one unit that goes nowhere: both of its inputs are blocked")
def _(blocked):
    return blocked(_t(1.0, 2.0), _t([0.0])), _b([1, 1])


@dead.law("unit 1 goes nowhere, input 2 brings nothing")
def _(blocked):
    return blocked(_t(1.0, 2.0, 0.0), _t([3.0, 0.0], [-1.0, 0.0])), _b([0, 0, 1], [1, 1, 1])


@dead.law("a single way out is enough")
def _(blocked):
    return blocked(_t(1.0, 2.0, 3.0), _t([0.0, 1.0], [0.5, 0.0])), _b([0, 0, 0], [0, 0, 0])


@dead.law("weights of 1 and -1 do not cancel: R takes sizes")
def _(blocked):
    return blocked(_t(1.0, 2.0, 3.0), _t([1.0, 0.0], [-1.0, 0.0])), _b([0, 0, 0], [1, 1, 1])


@dead.law("the same as G = u x^T being zero, three outputs, two units, four inputs")
def _(blocked):
    x, W_next = _t(0.0, 1.0, 0.0, 2.0), _t([0.0, 1.0], [0.0, -2.0], [0.0, 0.0])
    return blocked(x, W_next), W_next.abs().sum(dim=0)[:, None] * x == 0


@dead.mistake("One zero does not block a unit: it is dead only if *all* weights that leave it are zero.")
def one_zero_is_enough(x, W_next):
    return (W_next == 0).any(dim=0)[:, None] | (x == 0)


@dead.mistake("You add signed weights: 1 and -1 cancel in your sum, but not in R. Take sizes first.")
def signed_sum(x, W_next):
    return (W_next.sum(dim=0) == 0)[:, None] | (x == 0)


@dead.mistake("You ask for both. A path is cut if *either* nothing flows in *or* nothing flows on.")
def both_needed(x, W_next):
    return (W_next == 0).all(dim=0)[:, None] & (x == 0)


@dead.mistake("You look behind the layer only. Where x is zero nothing flows in, and the update is blocked too.")
def only_behind(x, W_next):
    return (W_next == 0).all(dim=0)[:, None].expand(-1, len(x))


@dead.mistake("You look before the layer only. A unit whose column in `W_next` is all zero leads nowhere.")
def only_before(x, W_next):
    return (x == 0).expand(W_next.shape[1], -1)


@dead.mistake("That marks the open entries. The blocked ones are asked for.")
def upside_down(x, W_next):
    return ~((W_next == 0).all(dim=0)[:, None] | (x == 0))


# ---------------------------------------------------------------------------- 04.3

block = Exercise(
    id="04.3",
    title="The flow through a transformer block",
    kind="design",
    goal=(
        "Write the stand-in for one block: attention returns its (identical) tokens, GELU is the identity, a "
        "LayerNorm is its gain, and both residual additions stay: attention first, then the MLP, each behind its "
        "LayerNorm. Every weight in absolute value."
    ),
    errors={SHAPES: "`W_v` comes before `W_out`, `W_fc1` (hidden, w) before `W_fc2` (w, hidden): each is `W @ x`."},
    minutes=15,
    difficulty=3,
    importance=4,
    hints=[
        "What must come out of a block whose matrices are all zero?",
        "The second half starts from the *result* of the first half, not from the block's input.",
        "`x = x + W_out.abs() @ (W_v.abs() @ (g_1.abs() * x))`, then the same with `W_fc2`, `W_fc1`, `g_2`.",
    ],
)


@block.solution
def block_flow(x, g_1, W_v, W_out, g_2, W_fc1, W_fc2):
    """What flows out of the block when x flows in.

    x, g_1, g_2: (w,);  W_v, W_out: (w, w);  W_fc1: (hidden, w);  W_fc2: (w, hidden) -> (w,)
    """
    x = x + W_out.abs() @ (W_v.abs() @ (g_1.abs() * x))
    return x + W_fc2.abs() @ (W_fc1.abs() @ (g_2.abs() * x))


X, G_1, G_2 = _t(1.0, 2.0), _t(0.5, -1.0), _t(2.0, 1.0)
W_V, W_OUT = _t([1.0, -1.0], [0.0, 2.0]), _t([2.0, 0.0], [-1.0, 1.0])
W_FC1, W_FC2 = _t([1.0, 0.0], [-1.0, 1.0], [0.5, 2.0]), _t([0.0, 1.0, -1.0], [1.0, 0.0, 2.0])
NOTHING = (torch.zeros(2, 2), torch.zeros(2, 2)), (torch.zeros(3, 2), torch.zeros(2, 3))


@block.law("all matrices zero: only the residual path is left")
def _(block_flow):
    return block_flow(X, G_1, *NOTHING[0], G_2, *NOTHING[1]), X


@block.law("attention alone, by hand: g x = (0.5, 2), W_v -> (2.5, 4), W_out -> (5, 6.5), plus x")
def _(block_flow):
    return block_flow(X, G_1, W_V, W_OUT, G_2, *NOTHING[1]), _t(6.0, 8.5)


@block.law("the MLP alone, by hand: g x = (2, 2), W_fc1 -> (2, 4, 5), W_fc2 -> (9, 12), plus x")
def _(block_flow):
    return block_flow(X, G_1, *NOTHING[0], G_2, W_FC1, W_FC2), _t(10.0, 14.0)


@block.law("both: what the attention puts out flows into the MLP")
def _(block_flow):
    whole = block_flow(X, G_1, W_V, W_OUT, G_2, W_FC1, W_FC2)
    half = block.reference(X, G_1, W_V, W_OUT, G_2, *NOTHING[1])
    return whole, block.reference(half, G_1, *NOTHING[0], G_2, W_FC1, W_FC2)


@block.law("signs do not matter")
def _(block_flow):
    turned = block_flow(X, -G_1, -W_V, W_OUT, _t(-2.0, 1.0), -W_FC1, W_FC2)
    return turned, block_flow(X, G_1, W_V, W_OUT, G_2, W_FC1, W_FC2)


@block.law("twice as much in, twice as much out")
def _(block_flow):
    return block_flow(2 * X, G_1, W_V, W_OUT, G_2, W_FC1, W_FC2), 2 * block_flow(X, G_1, W_V, W_OUT, G_2, W_FC1, W_FC2)


@block.mistake("The residual additions are missing: the block adds to x, it does not replace it.")
def no_residual(x, g_1, W_v, W_out, g_2, W_fc1, W_fc2):
    x = W_out.abs() @ (W_v.abs() @ (g_1.abs() * x))
    return W_fc2.abs() @ (W_fc1.abs() @ (g_2.abs() * x))


@block.mistake("Both halves start from the block's input. The MLP gets what the attention half put out, x included.")
def side_by_side(x, g_1, W_v, W_out, g_2, W_fc1, W_fc2):
    return x + W_out.abs() @ (W_v.abs() @ (g_1.abs() * x)) + W_fc2.abs() @ (W_fc1.abs() @ (g_2.abs() * x))


@block.mistake("The gains are missing: a LayerNorm's stand-in is its gain, |g| times what enters the branch.")
def gains_forgotten(x, g_1, W_v, W_out, g_2, W_fc1, W_fc2):
    x = x + W_out.abs() @ (W_v.abs() @ x)
    return x + W_fc2.abs() @ (W_fc1.abs() @ x)


@block.mistake("Signed weights flow in your block, and paths cancel. Every matrix and every gain in absolute value.")
def signs_kept(x, g_1, W_v, W_out, g_2, W_fc1, W_fc2):
    x = x + W_out @ (W_v @ (g_1 * x))
    return x + W_fc2 @ (W_fc1 @ (g_2 * x))


@block.mistake("The gain also scales the residual path in your block. It belongs to the branch only.")
def gain_on_the_residual(x, g_1, W_v, W_out, g_2, W_fc1, W_fc2):
    x = g_1.abs() * x
    x = x + W_out.abs() @ (W_v.abs() @ x)
    x = g_2.abs() * x
    return x + W_fc2.abs() @ (W_fc1.abs() @ x)


@block.mistake("The second residual is missing: the MLP's result is added to what came out of the attention half.")
def second_residual_missing(x, g_1, W_v, W_out, g_2, W_fc1, W_fc2):
    x = x + W_out.abs() @ (W_v.abs() @ (g_1.abs() * x))
    return W_fc2.abs() @ (W_fc1.abs() @ (g_2.abs() * x))


@block.mistake("Matrices are taken in absolute value, the gains are not. A gain is a weight like any other: |g|.")
def signed_gains(x, g_1, W_v, W_out, g_2, W_fc1, W_fc2):
    x = x + W_out.abs() @ (W_v.abs() @ (g_1 * x))
    return x + W_fc2.abs() @ (W_fc1.abs() @ (g_2 * x))


@block.mistake(
    "You take absolute values of the product of two matrices. By then paths have cancelled: |W_out| @ |W_v|."
)
def absolute_too_late(x, g_1, W_v, W_out, g_2, W_fc1, W_fc2):
    x = x + (W_out @ W_v).abs() @ (g_1.abs() * x)
    return x + (W_fc2 @ W_fc1).abs() @ (g_2.abs() * x)


# ---------------------------------------------------------------------------- 04.4

ranks = Exercise(
    id="04.4",
    title="Mend the rank correlation",
    kind="repair",
    goal=(
        "Do two scores rank alike? Spearman's answer: replace each number by its rank (0 for the smallest), then take "
        "the ordinary correlation of the ranks. This program should do that, and gives 1 for two scores that are "
        "equal, "
        "as it should. Two things in it are wrong all the same: find and mend them. No two numbers are equal."
    ),
    minutes=10,
    difficulty=3,
    importance=4,
    hints=[
        "What must come out for (1, 2, 3) against (3, 2, 1)? And what does the program say of (2, 3, 1) against (1, "
        "2, 3)?",
        "`argsort` says *which* entry comes first. An entry's rank is its place in that order: argsort of the argsort.",
        "`r = a.flatten().argsort().argsort().double()`, s for b; subtract the means; `r @ s / (r.norm() * s.norm())`.",
    ],
)


@ranks.solution
def rank_correlation(a, b):
    """Spearman's correlation of two tensors of the same shape, without ties -> float in [-1, 1]"""
    r, s = a.flatten().argsort().argsort().double(), b.flatten().argsort().argsort().double()
    r, s = r - r.mean(), s - s.mean()
    return (r @ s / (r.norm() * s.norm())).item()


@ranks.broken
def broken_correlation(a, b):
    """Spearman's correlation of two tensors of the same shape, without ties -> float in [-1, 1]"""
    r, s = a.flatten().argsort().double(), b.flatten().argsort().double()
    return (r @ s / (r.norm() * s.norm())).item()


@ranks.law("numbers that grow together correlate with 1, even if one has an outlier")
def _(rank_correlation):
    return rank_correlation(_t(1.0, 2.0, 3.0), _t(1.0, 5.0, 1000.0)), 1.0


@ranks.law("the reverse order gives -1")
def _(rank_correlation):
    return rank_correlation(_t(0.1, 0.2, 0.9), _t(3.0, 2.0, -8.0)), -1.0


@ranks.law("four numbers, two neighbours swapped twice: 1 - 6 * 4 / (4 * 15)")
def _(rank_correlation):
    return rank_correlation(_t(1.0, 2.0, 3.0, 4.0), _t(20.0, 10.0, 40.0, 35.0)), 0.6


@ranks.law("seven random numbers, ranks counted one by one: 1 - 6 sum d^2 / (n (n^2 - 1))")
def _(rank_correlation):
    a, b = torch.randn(7), torch.randn(7)
    d = [sum(a < x) - sum(b < y) for x, y in zip(a, b, strict=True)]
    return rank_correlation(a, b), 1 - 6 * sum(int(i) ** 2 for i in d) / (7 * 48)


@ranks.law("three numbers that are moved on by one place: the ranks are (1, 2, 0) and (0, 1, 2)")
def _(rank_correlation):
    return rank_correlation(_t(2.0, 3.0, 1.0), _t(1.0, 2.0, 3.0)), -0.5


@ranks.law("six numbers that go round in cycles, ranks counted one by one")
def _(rank_correlation):
    a, b = _t(0.3, 0.5, 0.1, 0.6, 0.2, 0.4), _t(0.2, 0.3, 0.6, 0.1, 0.5, 0.4)
    r, s = (torch.stack([(v < x).sum() for x in v]).double() for v in (a, b))
    return rank_correlation(a, b), torch.corrcoef(torch.stack([r, s]))[0, 1].item()


@ranks.law("a matrix counts as one long list")
def _(rank_correlation):
    a = _t([5.0, 1.0, 4.0], [2.0, 6.0, 3.0])
    b = _t([6.0, 3.0, 1.0], [2.0, 4.0, 5.0])
    return rank_correlation(a, b), rank_correlation(a.flatten(), b.flatten())


def _correlation(r, s):
    r, s = r - r.mean(), s - s.mean()
    return (r @ s / (r.norm() * s.norm())).item()


def _ranks(a):
    return a.flatten().argsort().argsort().double()


@ranks.mistake("That is the ordinary correlation of the values: an outlier decides it. Replace values by ranks first.")
def values_not_ranks(a, b):
    return _correlation(a.flatten().double(), b.flatten().double())


@ranks.mistake(
    "One fault is mended, the means are subtracted. The other: one `argsort` gives the order of the positions, not the "
    "rank of each entry. Take the argsort of the argsort."
)
def argsort_once(a, b):
    return _correlation(a.flatten().argsort().double(), b.flatten().argsort().double())


@ranks.mistake(
    "One fault is mended, the ranks are ranks. The other: without subtracting the mean rank this is a cosine, and a "
    "cosine of ranks can never be -1."
)
def not_centred(a, b):
    r, s = _ranks(a), _ranks(b)
    return (r @ s / (r.norm() * s.norm())).item()


@ranks.mistake("You drop the sign: scores that rank in opposite order should give -1.")
def sign_dropped(a, b):
    return abs(_correlation(_ranks(a), _ranks(b)))


@ranks.mistake("You count pairs in the same order. That is Kendall's tau, a good measure too, but another number.")
def kendall(a, b):
    a, b = a.flatten(), b.flatten()
    same = ((a[:, None] - a).sign() * (b[:, None] - b).sign()).sum()
    return (same / (len(a) * (len(a) - 1))).item()


@ranks.mistake("You count entries with exactly the same rank. Ranks that are close should count too: correlate them.")
def equal_ranks(a, b):
    return (_ranks(a) == _ranks(b)).double().mean().item()


# ---------------------------------------------------------------------------- 04.5

rewrite = Exercise(
    id="04.5",
    title="The same function, written differently",
    goal=(
        "Two linear layers in a row, as `v` and `out_proj` in attention. Multiply what enters hidden unit i by "
        "`s[i]`, and "
        "divide what leaves it by `s[i]`: the function stays the same, every number changes."
    ),
    errors={
        SHAPES: "Unit i is row i of `W_in` and column i of `W_out`: `s` has one factor for each row of the "
        "first "
        "(`s[:, None]`) and for each column of the second.",
    },
    minutes=5,
    difficulty=2,
    importance=3,
    hints=[
        "What has to stay the same is the product `W_out @ W_in`.",
        "Unit i is *row* i of the first matrix and *column* i of the second.",
        "`s[:, None] * W_in, W_out / s`",
    ],
)


@rewrite.solution
def stretch(W_in, W_out, s):
    """The same function with each hidden unit stretched by its s.

    W_in: (h, in), W_out: (out, h), s: (h,) positive -> the two new matrices
    """
    return s[:, None] * W_in, W_out / s


FIRST, SECOND = _t([1.0, -2.0, 0.5], [3.0, 1.0, 2.0]), _t([2.0, -1.0], [0.0, 4.0], [1.0, 0.5], [-2.0, 3.0])


@rewrite.law("factors of 1 change nothing")
def _(stretch):
    return stretch(FIRST, SECOND, torch.ones(2)), (FIRST, SECOND)


@rewrite.law("one unit, by hand")
def _(stretch):
    return stretch(_t([1.0, 2.0]), _t([6.0], [-3.0]), _t(3.0)), (_t([3.0, 6.0]), _t([2.0], [-1.0]))


@rewrite.law("the product of the two matrices, which is the function, stays the same")
def _(stretch):
    W_in, W_out = stretch(FIRST, SECOND, _t(4.0, 0.5))
    return W_out @ W_in, SECOND @ FIRST


@rewrite.law("each unit has a factor of its own")
def _(stretch):
    return stretch(FIRST, SECOND, _t(4.0, 0.5))[0], _t([4.0, -8.0, 2.0], [1.5, 0.5, 1.0])


@rewrite.mistake("Only the first matrix changes in your answer. Divide the second one, or the function changes.")
def second_forgotten(W_in, W_out, s):
    return s[:, None] * W_in, W_out


@rewrite.mistake("You multiply both. What leaves the unit must be *divided*, so that the factors cancel.")
def both_multiplied(W_in, W_out, s):
    return s[:, None] * W_in, W_out * s


@rewrite.mistake(
    "The directions are swapped: multiply what enters, divide what leaves. (The function does stay the same.)"
)
def directions_swapped(W_in, W_out, s):
    return W_in / s[:, None], W_out * s


@rewrite.mistake("You use one factor for all units. That changes no ranking inside a matrix: each unit has its own.")
def one_factor(W_in, W_out, s):
    return s.mean() * W_in, W_out / s.mean()


@rewrite.mistake("You change the matrices in place (`*=`), and with them the caller's model. Make new ones.")
def in_place(W_in, W_out, s):
    W_in *= s[:, None]
    W_out /= s
    return W_in, W_out


EXERCISES = [lost, dead, block, ranks, rewrite]

QUIZZES = [
    Quiz(
        "04.q1",
        "Why does our surrogate for a ViT send a single vector through the tower, and not an image's worth of tokens?",
        right="b",
        a=(
            "To save time, for one token stands for the average of an image's tokens.",
            "It is exact, not an average. See the other options.",
        ),
        b=(
            "All patches of an all-ones image are equal, and attention returns that token.",
            "Yes, whatever the attention weights are: they sum to 1. So one token carries all there is.",
        ),
        c=(
            "Only the class token reaches the output, and it alone is asked for the class.",
            "It does, but it gets what it knows from the patches, through attention.",
        ),
    ),
    Quiz(
        "04.q2",
        "In the suite's tensors, |G| hardly differs from entry to entry. What follows for |G tau|?",
        right="c",
        a=(
            "Inside a tensor all of the updates matter equally.",
            "|G| is nearly equal, but |tau| is not: their product differs as |tau| does.",
        ),
        b=(
            "As a measure of what matters it is wrong here.",
            "It says what R says. Only here it says little more than the size of the update.",
        ),
        c=(
            "Inside a tensor it ranks nearly as |tau| does.",
            "A factor that is the same everywhere changes no ranking.",
        ),
    ),
    Quiz(
        "04.q3",
        "Somebody publishes the same experts with every attention head's v rescaled, and out_proj to match. What "
        "does *not* "
        "stay as it was?",
        right="a",
        a=(
            "Which entries pruning by size keeps.",
            "Yes. The function, R and |G tau| are the same; the sizes of the numbers are not, nor what size ranks.",
        ),
        b=(
            "The accuracy of the unpruned experts.",
            "What enters a unit is multiplied and what leaves it divided: the function is the same.",
        ),
        c=(
            "R, for the weights are larger than before.",
            "Each path that enters a stretched unit leaves it again: R stays.",
        ),
    ),
]

OPEN = [
    OpenTask(
        "04.open",
        "a saliency that sees data",
        "The saliency of this notebook has never seen an image. Propose a score for the entries of a task vector "
        "that uses "
        "64 images without labels, say which rewriting of the network must not change it, and test *that* first. "
        "Then: does "
        "it rank differently from |tau|, and does the difference show in accuracy?",
        [
            "The score is a formula, and its data need is stated (how many images, of which split, no labels).",
            "The invariance is tested on the rewritten model of this notebook, with a number.",
            "Rank correlation with |tau| and with G * |tau| is given, layer by layer.",
            "Accuracy is compared at equal numbers of kept entries, with a random score beside it.",
        ],
    )
]
