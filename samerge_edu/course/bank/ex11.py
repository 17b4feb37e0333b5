"""Exercises of notebook 11: stitched regions, what a router's errors cost, one assignment, heads in another order."""

import torch

from ..exercise import SHAPES, Exercise, OpenTask, Quiz

# ---------------------------------------------------------------------------- 11.1

stitching = Exercise(
    id="11.1",
    title="Stitch the regions",
    kind="design",
    goal="""Put N task vectors into one. Each expert may keep its k largest entries, by magnitude; all its others go
back to the base. An entry that one expert has kept comes out as that expert has it, as if nobody else were there;
where several have kept the same entry, their mean; where none has, nothing.""",
    minutes=10,
    difficulty=2,
    importance=4,
    errors={SHAPES: "`topk(k, dim=1).indices` is (N, k): places, not a mask. `scatter_` makes a mask (N, d) of them."},
    hints=[
        "By how many is an entry divided that three experts have kept? One? None?",
        "Make a mask (N, d) that is true at each row's k largest magnitudes; then sum, and count, along dim 0.",
        "`(taus * kept).sum(dim=0) / kept.sum(dim=0).clamp(min=1)`",
    ],
)


@stitching.solution
def stitched(taus, k):
    """One update of N located regions.  taus: (N, d), k: int, entries that each expert keeps -> (d,)"""
    kept = torch.zeros_like(taus, dtype=torch.bool)
    kept.scatter_(1, taus.abs().topk(k, dim=1).indices, True)
    return (taus * kept).sum(dim=0) / kept.sum(dim=0).clamp(min=1)


PAIR = torch.tensor([[4.0, 1.0, -3.0, 0.5], [2.0, -0.5, 1.0, 5.0]])
THREE = torch.tensor([[6.0, -1.0, 2.0, 0.5, 3.0], [3.0, 0.1, -7.0, 0.2, 5.0], [-8.0, 0.3, 1.0, 4.0, -2.0]])


@stitching.law("k = 1: each expert's largest stands alone, undivided")
def _(stitched):
    return stitched(PAIR, 1), torch.tensor([4.0, 0.0, 0.0, 5.0])


@stitching.law("k = 2: the first entry is kept by both, (4 + 2) / 2 = 3; -3 is kept by one")
def _(stitched):
    return stitched(PAIR, 2), torch.tensor([3.0, 0.0, -3.0, 5.0])


@stitching.law("one expert, k = d: it comes back whole")
def _(stitched):
    return stitched(PAIR[:1], 4), PAIR[0]


@stitching.law("three experts, k = 2")
def _(stitched):
    return stitched(THREE, 2), torch.tensor([-1.0, 0.0, -7.0, 4.0, 4.0])


@stitching.law("a loud expert takes no place of a quiet one")
def _(stitched):
    return stitched(torch.tensor([[90.0, 50.0, 40.0], [1.0, 0.5, -2.0]]), 1), torch.tensor([90.0, 0.0, -2.0])


@stitching.law("regions that do not meet: three times the same result for three times the experts")
def _(stitched):
    taus = torch.tensor([[1.0, 0.1, 0.0], [0.0, 0.2, -2.0]])
    return stitched(taus.repeat(3, 1), 1), torch.tensor([1.0, 0.0, -2.0])


def _kept(taus, k):
    kept = torch.zeros_like(taus, dtype=torch.bool)
    return kept.scatter_(1, taus.abs().topk(k, dim=1).indices, True)


@stitching.mistake("Every entry is divided by N. Divide it by the number of experts that have kept it.")
def divided_by_all(taus, k):
    return (taus * _kept(taus, k)).mean(dim=0)


@stitching.mistake("Where regions overlap you add. Two that want the same entry want it once: their mean.")
def overlaps_added(taus, k):
    return (taus * _kept(taus, k)).sum(dim=0)


@stitching.mistake(
    "Where one expert has kept an entry you average all of them. The others gave theirs back: leave them."
)
def mean_of_all_there(taus, k):
    return taus.mean(dim=0) * _kept(taus, k).any(dim=0)


@stitching.mistake("You keep the k largest of the mean. Each expert chooses its own region, before anything is mixed.")
def region_of_the_mean(taus, k):
    tau = taus.mean(dim=0)
    return tau * _kept(tau[None], k)[0]


@stitching.mistake("You take the k largest numbers. A strongly negative entry matters as well: by magnitude.")
def by_value(taus, k):
    kept = torch.zeros_like(taus, dtype=torch.bool).scatter_(1, taus.topk(k, dim=1).indices, True)
    return (taus * kept).sum(dim=0) / kept.sum(dim=0).clamp(min=1)


@stitching.mistake("All experts share one ranking, and a loud one takes the places of a quiet one: k for each of them.")
def one_ranking(taus, k):
    kept = _kept(taus.flatten()[None], k * len(taus))[0].view_as(taus)
    return (taus * kept).sum(dim=0) / kept.sum(dim=0).clamp(min=1)


@stitching.mistake("Where regions overlap you let the largest win. Asked for is the mean of those that kept the entry.")
def largest_wins(taus, k):
    kept = taus * _kept(taus, k)
    return kept.gather(0, kept.abs().argmax(dim=0)[None])[0]


# ---------------------------------------------------------------------------- 11.2

erring = Exercise(
    id="11.2",
    title="What will a router that errs reach?",
    kind="predict",
    goal="""A router has sent images of N tasks to M models. You have its confusion, how many images of task n went to
model m, and you have measured every model on every task. Predict the accuracy of each task behind this router. Assume
that an image which is sent astray is neither easier nor harder than others of its task. An image in the wrong place is
not always lost: the wrong model may still get it right.""",
    minutes=10,
    difficulty=2,
    importance=4,
    errors={
        SHAPES: "Both tables are (N, M): a row belongs to a task, a column to a model. One number a *task* is asked."
    },
    hints=[
        "Of 10 images 8 go to a model that gets 90 % right, 2 to one that gets 20 % right. How many are right?",
        "Make shares of the counts, so that each task's add up to 1; what do you weigh with them?",
        "`share = routes / routes.sum(dim=1, keepdim=True)`, then the sum over the models of share * accuracy",
    ],
)


@erring.solution
def routed_accuracy(routes, accuracy):
    """Expected accuracy of each task, in percent.

    routes: (N, M) images of task n sent to model m, accuracy: (N, M) of model m on task n, percent -> (N,)
    """
    share = routes / routes.sum(dim=1, keepdim=True)
    return (share * accuracy).sum(dim=1)


OWN = torch.tensor([[90.0, 20.0], [40.0, 95.0]])
WITH_BASE = torch.tensor([[90.0, 20.0, 60.0], [40.0, 95.0, 70.0]])


@erring.law("8 of 10 to a model of 90 %, 2 to one of 20 %: 76")
def _(routed_accuracy):
    return routed_accuracy(torch.tensor([[8.0, 2.0]]), OWN[:1]), torch.tensor([76.0])


@erring.law("a router that never errs: each expert on its own task")
def _(routed_accuracy):
    return routed_accuracy(torch.diag(torch.tensor([10.0, 30.0])), OWN), torch.tensor([90.0, 95.0])


@erring.law("always astray: the other expert's accuracy")
def _(routed_accuracy):
    return routed_accuracy(torch.tensor([[0.0, 5.0], [5.0, 0.0]]), OWN), torch.tensor([20.0, 40.0])


@erring.law("two tasks, three models (the last is the base), 10 and 40 images")
def _(routed_accuracy):
    return routed_accuracy(torch.tensor([[7.0, 1.0, 2.0], [4.0, 20.0, 16.0]]), WITH_BASE), torch.tensor([77.0, 79.5])


@erring.law("ten times the images in the same proportion: the same")
def _(routed_accuracy):
    routes = torch.tensor([[7.0, 1.0, 2.0], [4.0, 20.0, 16.0]])
    return routed_accuracy(10 * routes, WITH_BASE), routed_accuracy(routes, WITH_BASE)


def _shares(routes):
    return routes / routes.sum(dim=1, keepdim=True)


@erring.mistake("You count every image that is sent astray as lost. The wrong model gets some of them right.")
def astray_is_lost(routes, accuracy):
    return _shares(routes).diagonal() * accuracy.diagonal()


@erring.mistake(
    "You normalise the columns: of all images that a model receives. Asked for are all images of a *task*: the rows."
)
def columns_normalised(routes, accuracy):
    return (routes / routes.sum(dim=0).clamp(min=1) * accuracy).sum(dim=1)


@erring.mistake("Counts stand where shares belong: divide each row by the task's number of images.")
def counts_for_shares(routes, accuracy):
    return (routes * accuracy).sum(dim=1)


@erring.mistake("You divide by all images of all tasks. Each task has its own number of images.")
def share_of_everything(routes, accuracy):
    return (routes / routes.sum() * accuracy).sum(dim=1)


@erring.mistake("You send all images of a task where most of them go. The minority counts with its share.")
def majority_route(routes, accuracy):
    return accuracy.gather(1, routes.argmax(dim=1, keepdim=True))[:, 0]


@erring.mistake("That is the average over all tasks and images. Asked for is one number for each task.")
def one_number(routes, accuracy):
    return ((routes * accuracy).sum() / routes.sum())[None]


@erring.mistake("You average over the models. The shares add up to 1 already: the weighted sum is the mean.")
def divided_again(routes, accuracy):
    return (_shares(routes) * accuracy).mean(dim=1)


@erring.mistake(
    "Images sent astray are taken to be guesses of the average model. You know which model they went to: weigh its own."
)
def astray_at_average(routes, accuracy):
    s = _shares(routes).diagonal()
    return s * accuracy.diagonal() + (1 - s) * accuracy.mean(dim=1)


# ---------------------------------------------------------------------------- 11.3

matching = Exercise(
    id="11.3",
    title="Which unit is which?",
    kind="design",
    goal="""Two networks x -> V relu(W x) come from two beginnings. Find the order of B's hidden units in which B lies
nearest to A: the least sum of squared differences over W and V together, of all orders there are. Return P such that
B's unit P[i] comes to place i. (Squared lengths do not change when units are reordered. What is left of the square?)
`scipy.optimize.linear_sum_assignment(C, maximize=...)` finds the best pairing for a table C of what each pair is worth;
the second of the two arrays that it returns is the partner of each row.""",
    minutes=15,
    difficulty=3,
    importance=5,
    errors={SHAPES: "A unit is a *row* of W (h, in) and a *column* of V (out, h): the table of pairs is (h, h)."},
    hints=[
        "|A - B|^2 = |A|^2 + |B|^2 - 2 <A, B>. Which of the three depends on the order?",
        "What is it worth to put B's unit j to A's unit i? It has incoming weights, and outgoing ones: C is (h, h).",
        "`C = W_a @ W_b.T + V_a.T @ V_b`, and the largest sum is wanted",
    ],
)


@matching.solution
def match_units(W_a, V_a, W_b, V_b):
    """P: unit P[i] of B comes to place i.  W_a, W_b: (h, in), V_a, V_b: (out, h) -> (h,) int64"""
    from scipy.optimize import linear_sum_assignment

    C = W_a @ W_b.T + V_a.T @ V_b
    return torch.from_numpy(linear_sum_assignment(C, maximize=True)[1])


def _draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _pairs(C):
    """Weights of which the table of what pairs are worth is C: A's rows are C's, B's units are the axes."""
    C = torch.tensor(C)
    return C, torch.zeros(1, len(C)), torch.eye(C.shape[1]), torch.zeros(1, len(C))


@matching.law("two units exchanged: back again")
def _(match_units):
    W, V = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]), torch.tensor([[3.0, 1.0]])
    return match_units(W, V, W[[1, 0]], V[:, [1, 0]]), torch.tensor([1, 0])


@matching.law("four units moved round: each is found where it went")
def _(match_units):
    W, V, Q = _draw(4, 3), _draw(2, 4, seed=1), [2, 0, 3, 1]
    return match_units(W, V, W[Q], V[:, Q]), torch.tensor([1, 3, 0, 2])


@matching.law("equal incoming weights: the outgoing ones tell")
def _(match_units):
    W, V = torch.ones(3, 2), torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    return match_units(W, V, W, V[:, [1, 2, 0]]), torch.tensor([2, 0, 1])


@matching.law("equal outgoing weights: the incoming ones tell")
def _(match_units):
    W, V = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), torch.ones(1, 3)
    return match_units(W, V, W[[1, 2, 0]], V), torch.tensor([2, 0, 1])


@matching.law("two units want the same partner, worth 5 and 5.5: the other one of the first is worth 4, not 1")
def _(match_units):
    return match_units(*_pairs([[5.0, 4.0], [5.5, 1.0]])), torch.tensor([1, 0])


@matching.law("the dearest single pair (5.5) is not in the best order: 1 + 5.5 < 5 + 2")
def _(match_units):
    return match_units(*_pairs([[1.0, 5.0], [2.0, 5.5]])), torch.tensor([1, 0])


@matching.law("a unit of the opposite sign is the worst partner")
def _(match_units):
    return match_units(*_pairs([[-3.0, 1.0], [0.5, -2.0]])), torch.tensor([1, 0])


@matching.law("long units weigh more than short ones")
def _(match_units):
    W_a, W_b = torch.tensor([[10.0, 2.0], [1.0, 0.0]]), torch.tensor([[5.0, 1.5], [6.0, 0.0]])
    V = torch.zeros(1, 2)
    return match_units(W_a, V, W_b, V), torch.tensor([1, 0])


def _best(C):
    from scipy.optimize import linear_sum_assignment

    return torch.from_numpy(linear_sum_assignment(C.numpy(), maximize=True)[1])


@matching.mistake("Only the incoming weights are compared. A unit is also what is read from it: add the outgoing ones.")
def incoming_only(W_a, V_a, W_b, V_b):
    return _best(W_a @ W_b.T)


@matching.mistake("Only the outgoing weights are compared. Two units may be read alike and look at different inputs.")
def outgoing_only(W_a, V_a, W_b, V_b):
    return _best(V_a.T @ V_b)


@matching.mistake("That is the way back: where A's units go in B. Asked for is which of B's units comes to place i.")
def way_back(W_a, V_a, W_b, V_b):
    return _best(W_a @ W_b.T + V_a.T @ V_b).argsort()


@matching.mistake("Each unit of A takes its favourite, and some of B's are taken twice. Each may be used once only.")
def favourites(W_a, V_a, W_b, V_b):
    return (W_a @ W_b.T + V_a.T @ V_b).argmax(dim=1)


@matching.mistake("The units of A choose one after the other. The first one's choice may cost a later one more.")
def in_turn(W_a, V_a, W_b, V_b):
    C = W_a @ W_b.T + V_a.T @ V_b
    P = torch.zeros(len(C), dtype=torch.long)
    for i in range(len(C)):
        P[i] = C[i].argmax()
        C[:, P[i]] = -torch.inf
    return P


@matching.mistake(
    "You take the dearest pair, then the dearest of the rest, and so on. The best order may lack that pair."
)
def dearest_first(W_a, V_a, W_b, V_b):
    C = W_a @ W_b.T + V_a.T @ V_b
    P = torch.zeros(len(C), dtype=torch.long)
    for _ in range(len(C)):
        i, j = divmod(int(C.argmax()), len(C))
        P[i] = j
        C[i], C[:, j] = -torch.inf, -torch.inf
    return P


@matching.mistake("The inner products are made small. Near is where they are large: `maximize=True`.")
def smallest(W_a, V_a, W_b, V_b):
    return _best(-(W_a @ W_b.T + V_a.T @ V_b))


@matching.mistake("You compare by cosine. Long units make most of the distance: do not bring them to length 1.")
def by_cosine(W_a, V_a, W_b, V_b):
    a, b = (torch.nn.functional.normalize(torch.cat([W, V.T], dim=1)) for W, V in ((W_a, V_a), (W_b, V_b)))
    return _best(a @ b.T)


@matching.mistake("The sign of the likeness is lost. A unit that does the opposite is as far away as can be.")
def sign_lost(W_a, V_a, W_b, V_b):
    return _best((W_a @ W_b.T + V_a.T @ V_b).abs())


# ---------------------------------------------------------------------------- 11.4

moving = Exercise(
    id="11.4",
    title="Mend the moving of heads",
    kind="repair",
    goal="""The heads of an attention layer have no order of their own, and a colleague moves them: head order[i] shall
come to place i, and the layer must answer every input as before. The width is cut into heads, one behind the other; the
rows of W and b are those of q, then of k, then of v; `out` reads what the heads say, side by side. Three things are
wrong with the program; with two heads exchanged, some tests do not see it.""",
    minutes=15,
    difficulty=4,
    importance=4,
    errors={"view|shape '": "`view(heads, -1)` puts each head into one row; order picks rows."},
    hints=[
        "Width 6, two heads: which units are head 0? What are the rows of `arange(6).view(-1, 2)`?",
        "Everything that belongs to a unit moves with it: its rows in W, and what else? Where does `out` look for it?",
        "`view(len(order), -1)[order]`; `b[rows]`; `out[:, P]`, in the same order as the rows",
    ],
)


@moving.solution
def heads_moved(W, b, out, order):
    """The same layer with head order[i] at place i.

    W: (3 width, in) rows of q, k, v, b: (3 width,), out: (dim, width), order: list of int -> tuple (W, b, out)
    """
    width = out.shape[1]
    P = torch.arange(width).view(len(order), -1)[order].flatten()
    rows = torch.cat([P, P + width, P + 2 * width])
    return W[rows], b[rows], out[:, P]


@moving.broken
def broken_heads_moved(W, b, out, order):
    """The same layer with head order[i] at place i.

    W: (3 width, in) rows of q, k, v, b: (3 width,), out: (dim, width), order: list of int -> tuple (W, b, out)
    """
    width = out.shape[1]
    P = torch.arange(width).view(-1, len(order))[:, order].flatten()
    rows = torch.cat([P, P + width, P + 2 * width])
    return W[rows], b, out[:, P.argsort()]


def _layer(width, inputs=3, dim=2):
    return _draw(3 * width, inputs), _draw(3 * width, seed=1), _draw(dim, width, seed=2)


def _attends(layer, heads, x=None):
    """Answers (tokens, dim) of an attention layer to tokens x (tokens, in)."""
    W, b, out = layer
    x = _draw(4, W.shape[1], seed=3) if x is None else x
    q, k, v = (part.unflatten(1, (heads, -1)).transpose(0, 1) for part in (x @ W.T + b).chunk(3, dim=1))
    z = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1) @ v
    return z.transpose(0, 1).flatten(1) @ out.T


@moving.law("the order as it is: nothing moves")
def _(heads_moved):
    return heads_moved(*_layer(4), [0, 1]), _layer(4)


@moving.law("two heads of one unit each, exchanged; no biases")
def _(heads_moved):
    W = torch.tensor([[1.0, 7.0], [2.0, 8.0], [3.0, 9.0], [4.0, 10.0], [5.0, 11.0], [6.0, 12.0]])
    moved = heads_moved(W, torch.zeros(6), torch.tensor([[1.0, 2.0]]), [1, 0])
    return moved, (W[[1, 0, 3, 2, 5, 4]], torch.zeros(6), torch.tensor([[2.0, 1.0]]))


@moving.law("the same with biases: each goes with its unit")
def _(heads_moved):
    b = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    return heads_moved(torch.zeros(6, 1), b, torch.zeros(1, 2), [1, 0])[1], b[[1, 0, 3, 2, 5, 4]]


@moving.law("three heads of two units each, moved round: every input is answered as before")
def _(heads_moved):
    moved = heads_moved(*_layer(6), [2, 0, 1])
    return _attends(moved, 3), _attends(_layer(6), 3)


@moving.law("three heads of two units, moved round: where each unit is found")
def _(heads_moved):
    _, b, out = heads_moved(torch.zeros(18, 1), torch.arange(18.0), torch.arange(6.0)[None], [2, 0, 1])
    P = torch.tensor([4.0, 5.0, 0.0, 1.0, 2.0, 3.0])
    return (b, out), (torch.cat([P, P + 6, P + 12]), P[None])


@moving.law("two heads of two units each, exchanged: every input is answered as before")
def _(heads_moved):
    return _attends(heads_moved(*_layer(4), [1, 0]), 2), _attends(_layer(4), 2)


def _half_mended(W, b, out, order, whole=False, biases=False, columns=False):
    """The broken program with some of its three faults mended."""
    width, heads = out.shape[1], len(order)
    units = torch.arange(width)
    P = (units.view(heads, -1)[order] if whole else units.view(-1, heads)[:, order]).flatten()
    rows = torch.cat([P, P + width, P + 2 * width])
    return W[rows], b[rows] if biases else b, out[:, P if columns else P.argsort()]


@moving.mistake(
    "One fault of three is mended: heads are whole. Biases stay behind, and `out` goes the other way round."
)
def whole_mended(W, b, out, order):
    return _half_mended(W, b, out, order, whole=True)


@moving.mistake(
    "One fault of three is mended: the biases. `view` takes units of several heads for one head, and `out` goes the "
    "other way round."
)
def biases_mended(W, b, out, order):
    return _half_mended(W, b, out, order, biases=True)


@moving.mistake(
    "One fault of three is mended: the columns. `view` takes units of several heads for one head, and biases stay."
)
def columns_mended(W, b, out, order):
    return _half_mended(W, b, out, order, columns=True)


@moving.mistake("Two faults are mended. The third: biases stay where they were, and belong to other units now.")
def biases_left(W, b, out, order):
    return _half_mended(W, b, out, order, whole=True, columns=True)


@moving.mistake(
    "Two faults are mended. The third: `argsort` is the way back. It is the same for two heads, and not for three."
)
def columns_left(W, b, out, order):
    return _half_mended(W, b, out, order, whole=True, biases=True)


@moving.mistake(
    "Two faults are mended. The third: `view(-1, heads)` puts unit 0 of head 0 beside unit 1 of it, in two heads. The "
    "function changes: a head is a block of units, one behind the other."
)
def whole_left(W, b, out, order):
    return _half_mended(W, b, out, order, biases=True, columns=True)


@moving.mistake("Everything is moved the other way: the function is kept, but head i comes to place order[i].")
def other_way(W, b, out, order):
    return heads_moved(W, b, out, torch.tensor(order).argsort().tolist())


@moving.mistake("q and k move, v stays. `out` reads v's units: they move with their head.")
def v_stays(W, b, out, order):
    moved_W, moved_b, moved_out = heads_moved(W, b, out, order)
    width = out.shape[1]
    return (
        torch.cat([moved_W[: 2 * width], W[2 * width :]]),
        torch.cat([moved_b[: 2 * width], b[2 * width :]]),
        moved_out,
    )


@moving.mistake("`out` is left as it is. It finds the heads side by side, and they stand in another order now.")
def out_stays(W, b, out, order):
    moved_W, moved_b, _ = heads_moved(W, b, out, order)
    return moved_W, moved_b, out


EXERCISES = [stitching, erring, matching, moving]

# ---------------------------------------------------------------------------- quizzes

QUIZZES = [
    Quiz(
        "11.q1",
        "A router was trained on images of eight tasks, and gives soft-max weights. What does it answer to an image of "
        "none of them?",
        right="b",
        a=(
            "weights near 1/8, as it has no opinion",
            "It may, but nothing in its training asks for it: no image of that kind was ever there.",
        ),
        b=(
            "some expert's, and perhaps quite surely",
            "Yes. The weights add up to 1 whatever comes in; 'none of these' is not among the answers.",
        ),
        c=(
            "no weights at all, so the base is used",
            "That would need a class for it, or a threshold somebody has chosen on such images.",
        ),
    ),
    Quiz(
        "11.q2",
        "Eight experts are kept as one shared vector and a mask of 1 bit an entry each. What does a ninth expert cost?",
        right="a",
        a=(
            "a 32nd of a model",
            "Yes: one bit where the model has 32. But the shared vector changes, for it is the sum of all.",
        ),
        b=(
            "a ninth of a model",
            "The shared vector is not cut into pieces: there is one, of the size of a model, for all.",
        ),
        c=(
            "one whole model",
            "That is what the shared vector costs, and it is there already.",
        ),
        d=(
            "nothing at all",
            "Its mask must be kept: nothing else says which entries are its own.",
        ),
    ),
    Quiz(
        "11.q3",
        "You match network B to a copy of A whose units were shuffled by lot, and to a second training of B's kind. "
        "Which outcome says that matching *works*, and not only that the networks are alike?",
        right="c",
        a=(
            "the mean with the second training is accurate",
            "It may be so because the two lay near each other anyway: measure the mean before matching, too.",
        ),
        b=(
            "the cosine of the weights rises in both cases",
            "It must rise: that is what is maximised. The networks' mean may be as bad as before.",
        ),
        c=(
            "the shuffled copy is found again unit by unit",
            "Yes: there the right answer is known. The second training then says how alike trainings are.",
        ),
        d=(
            "the search ends after a small number of sweeps",
            "An early end may be a poor local optimum. It says nothing of the order that is found.",
        ),
    ),
]

OPEN = [
    OpenTask(
        "11.open",
        "what would you ship?",
        "Somebody has eight experts and 100 MB for all of them (one model: 340 MB in 32 bits, one of them must be "
        "there anyway). The images come from a phone's camera: some belong to a task, many to none. Write down what "
        "you would keep beside the shared model, who decides the route, what happens to an image of no task, and the "
        "two measurements that would make you change the plan.",
        [
            "Bytes are counted, the shared vector and the router among them.",
            "Images of no task are measured, and there is an answer to them: a class, a threshold, or the base.",
            "The router's accuracy and the accuracy behind it are two numbers, and the second decides.",
            "A single merged model stands in the table as the control, at 0 MB.",
        ],
    )
]
