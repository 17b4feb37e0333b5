"""Exercises of notebook 10: Fisher's diagonal, one layer for all inputs, the entropy of answers, a fair choice."""

import torch

from ..exercise import SHAPES, Exercise, OpenTask, Quiz

# ---------------------------------------------------------------------------- 10.1

informing = Exercise(
    id="10.1",
    title="How much does a parameter matter?",
    kind="design",
    goal="""Measure, for each of d parameters, how strongly the model's answers hang on it. Nobody gives you labels:
imagine that the model draws the label of each image from its own probabilities, take the squared derivative of the
log-probability of what it drew, and average, over what it might draw and over the images.""",
    minutes=10,
    difficulty=2,
    importance=4,
    errors={SHAPES: "p is (n, C) and G is (n, C, d): give p a last side of length 1, `p[..., None]`."},
    hints=[
        "A label c is drawn with probability p[i, c]. What is the mean of a quantity that takes the value q_c then?",
        "Square first, G (n, C, d) entry by entry; then weigh the classes by p and add them up; then average images.",
        "`(p[..., None] * G.square()).sum(dim=1).mean(dim=0)`",
    ],
)


@informing.solution
def fisher_diagonal(p, G):
    """One number >= 0 a parameter.

    p: (n, C) the model's probabilities of C classes for n images, G: (n, C, d) derivatives of log p -> (d,)
    """
    return (p[..., None] * G.square()).sum(dim=1).mean(dim=0)


def _biases(p):
    """Derivatives of log p by the C biases of a soft-max: 1 - p_k for the class itself, -p_k for the others."""
    return torch.eye(p.shape[1]) - p[:, None, :]


P = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]])


@informing.law("two classes at 0.8 and 0.2, derivatives 0.2 and -0.8: 0.8 * 0.04 + 0.2 * 0.64 = 0.16")
def _(fisher_diagonal):
    return fisher_diagonal(torch.tensor([[0.8, 0.2]]), torch.tensor([[[0.2], [-0.8]]])), torch.tensor([0.16])


@informing.law("the biases of a soft-max: p_k (1 - p_k), averaged over two images")
def _(fisher_diagonal):
    return fisher_diagonal(P, _biases(P)), (P * (1 - P)).mean(dim=0)


@informing.law("an image that the model is sure of says nothing: four images, two of them sure, half of it")
def _(fisher_diagonal):
    sure = torch.tensor([[0.0, 1.0, 0.0]]).expand(2, 3)
    p = torch.cat([P, sure])
    return fisher_diagonal(p, _biases(p)), (P * (1 - P)).mean(dim=0) / 2


@informing.law("one parameter that does three times as much: nine times the number")
def _(fisher_diagonal):
    G = _biases(P)[..., :2] * torch.tensor([1.0, 3.0])
    return fisher_diagonal(P, G), (P * (1 - P)).mean(dim=0)[:2] * torch.tensor([1.0, 9.0])


@informing.mistake(
    "You average the derivatives and square the mean. Their mean over the model's own labels is always 0: square first."
)
def squared_mean(p, G):
    return (p[..., None] * G).sum(dim=1).square().mean(dim=0)


@informing.mistake(
    "You look at the likeliest class only. The others are drawn as well, seldom, but with large derivatives."
)
def likeliest_class(p, G):
    return G[torch.arange(len(p)), p.argmax(dim=1)].square().mean(dim=0)


@informing.mistake("Every class counts alike. A class is drawn with probability p: weigh its square by it.")
def classes_alike(p, G):
    return G.square().sum(dim=1).mean(dim=0)


@informing.mistake("Every class counts 1/C. A class is drawn with probability p: weigh by it instead of averaging.")
def classes_averaged(p, G):
    return G.square().mean(dim=1).mean(dim=0)


@informing.mistake("The squares of all images are added up. Average over them, or twice the images matter twice.")
def images_summed(p, G):
    return fisher_diagonal(p, G) * len(p)


@informing.mistake(
    "You square the sum over the images and classes, as a whole batch's backward pass gives it. Derivatives of "
    "opposite sign cancel there: square each one."
)
def square_of_the_batch(p, G):
    return (p.sqrt()[..., None] * G).sum(dim=(0, 1)).square() / len(p)


@informing.mistake("You average absolute values. The information is the mean of squares.")
def not_squared(p, G):
    return (p[..., None] * G.abs()).sum(dim=1).mean(dim=0)


@informing.mistake("The probabilities are squared together with the derivatives. They are weights: outside the square.")
def weights_squared(p, G):
    return (p[..., None] * G).square().sum(dim=1).mean(dim=0)


# ---------------------------------------------------------------------------- 10.2

answering = Exercise(
    id="10.2",
    title="One layer for everybody's inputs",
    kind="design",
    goal="""Merge one linear layer. Expert n's matrix answers an input x with W_n x, and X_n holds inputs of its task,
one a row. Find the single matrix whose answers to all these inputs come nearest to those of the expert that each input
belongs to (least squares, every row counts alike).""",
    minutes=15,
    difficulty=3,
    importance=5,
    errors={SHAPES: "An input is a row of X: all answers of expert n at once are `X_n @ W_n.T`, (rows, out)."},
    hints=[
        "Write down what is wanted for each row: the answer of its own expert. Put all rows into one table.",
        "`X = torch.cat(Xs)` and Y, the wishes in the same order: find W with X W^T near Y.",
        "`torch.linalg.lstsq(X, Y).solution` is (in, out): W^T.",
    ],
)


@answering.solution
def one_layer(Ws, Xs):
    """The matrix that answers all inputs as their experts do.

    Ws: list of (out, in), Xs: list of (rows of expert n, in) -> (out, in)
    """
    X = torch.cat(Xs)
    Y = torch.cat([x @ W.T for W, x in zip(Ws, Xs, strict=True)])
    return torch.linalg.lstsq(X, Y).solution.T


def _draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@answering.law("two experts that use one input each: (2, 9) and (7, 4), inputs (1, 0) and (0, 1), make (2, 4)")
def _(one_layer):
    Ws = [torch.tensor([[2.0, 9.0]]), torch.tensor([[7.0, 4.0]])]
    return one_layer(Ws, [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])]), torch.tensor([[2.0, 4.0]])


@answering.law("inputs that are three times as strong count nine times: (9 * 1 + 1 * 5) / 10 = 1.4")
def _(one_layer):
    Ws = [torch.tensor([[1.0]]), torch.tensor([[5.0]])]
    return one_layer(Ws, [torch.tensor([[3.0]]), torch.tensor([[1.0]])]), torch.tensor([[1.4]])


@answering.law("three rows against one: (3 * 1 + 1 * 5) / 4 = 2")
def _(one_layer):
    Ws = [torch.tensor([[1.0]]), torch.tensor([[5.0]])]
    return one_layer(Ws, [torch.ones(3, 1), torch.ones(1, 1)]), torch.tensor([[2.0]])


@answering.law("one expert comes back as it was")
def _(one_layer):
    W = _draw(2, 3)
    return one_layer([W], [_draw(5, 3, seed=1)]), W


@answering.law("what is left over has nothing to do with the inputs: X^T X W^T = X^T Y")
def _(one_layer):
    Ws, Xs = [_draw(2, 3), _draw(2, 3, seed=1)], [_draw(6, 3, seed=2), 2 * _draw(4, 3, seed=3)]
    W = one_layer(Ws, Xs)
    wanted = sum(x.T @ x @ W_n.T for W_n, x in zip(Ws, Xs, strict=True))
    return sum(x.T @ x for x in Xs) @ W.T if W.shape == (2, 3) else W, wanted


@answering.mistake("That is the plain mean of the matrices. The inputs have a say: who uses a direction decides there.")
def plain_mean(Ws, Xs):
    return torch.stack(list(Ws)).mean(dim=0)


@answering.mistake(
    "You weigh each *expert* by how much it sees in all. Each *direction* of the input has its own weights."
)
def one_weight_an_expert(Ws, Xs):
    weights = [x.square().sum() for x in Xs]
    return sum(w * W for w, W in zip(weights, Ws, strict=True)) / sum(weights)


@answering.mistake("You divide each task by its number of rows. Here every row counts alike: leave the sums.")
def tasks_alike(Ws, Xs):
    return one_layer(Ws, [x / len(x) ** 0.5 for x in Xs])


@answering.mistake("Inputs come in at length 1. A stronger input asks for more, and its error is larger: leave it.")
def unit_inputs(Ws, Xs):
    return one_layer(Ws, [x / x.norm(dim=1, keepdim=True) for x in Xs])


@answering.mistake(
    "Each input decides alone, by its own strength (the diagonal of X^T X). Inputs that rise and fall together share "
    "the work: solve for all at once."
)
def diagonal_only(Ws, Xs):
    weights = [x.square().sum(dim=0) for x in Xs]
    return sum(W * w for w, W in zip(weights, Ws, strict=True)) / sum(weights)


@answering.mistake("The wishes are in another order than the inputs: row i of Y belongs to row i of X.")
def wishes_turned_round(Ws, Xs):
    Y = torch.cat([x @ W.T for W, x in zip(Ws, Xs, strict=True)])
    return torch.linalg.lstsq(torch.cat(Xs), Y.flip(0)).solution.T


@answering.mistake("You added something to the diagonal (ridge). Asked for is the nearest answer, without a pull to 0.")
def ridge(Ws, Xs):
    G = sum(x.T @ x for x in Xs)
    R = sum(W @ x.T @ x for W, x in zip(Ws, Xs, strict=True))
    return torch.linalg.solve(G + torch.eye(len(G)), R.T).T


@answering.mistake("Only the last expert's inputs are used. Put the inputs of all experts into one table.")
def last_expert(Ws, Xs):
    return torch.linalg.lstsq(Xs[-1], Xs[-1] @ Ws[-1].T).solution.T


# ---------------------------------------------------------------------------- 10.3

doubting = Exercise(
    id="10.3",
    title="Mend AdaMerging's loss",
    kind="repair",
    goal="""A colleague's AdaMerging learns nothing. The loss should be the entropy of the model's answer, -sum p log p
over the classes, averaged over the images; the answer is the soft-max of `scale` times feature times head. Three things
are wrong with it. The function must also bear an answer that is quite sure: p = 0 adds nothing, and no NaN.""",
    minutes=10,
    difficulty=2,
    importance=4,
    hints=[
        "What must add up to 1, the row of an image or the column of a class?",
        "Which of the three arguments is never used? And what does `.mean()` over (n, C) divide by?",
        "`log_p = (scale * z @ head.T).log_softmax(dim=1)`: finite where p is 0. Then add up the classes.",
    ],
)


@doubting.solution
def unsure(z, head, scale):
    """Mean entropy of the answers, in nats.  z: (n, dim) features, head: (C, dim), scale: float -> float"""
    log_p = (scale * z @ head.T).log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1).mean().item()


@doubting.broken
def broken_unsure(z, head, scale):
    """Mean entropy of the answers, in nats.  z: (n, dim) features, head: (C, dim), scale: float -> float"""
    p = (z @ head.T).softmax(dim=0)
    return -(p * p.log()).mean().item()


Z = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-0.8, 0.6]])
HEAD = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])


@doubting.law("nothing known: 3 classes alike give log 3")
def _(unsure):
    return unsure(torch.zeros(2, 2), HEAD, 5.0), torch.tensor(3.0).log().item()


@doubting.law("two classes at 0.8 and 0.2: 0.5004")
def _(unsure):
    return unsure(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 1.3862944), 0.5004024


@doubting.law("two images: the mean of what each gives alone")
def _(unsure):
    return unsure(Z[:2], HEAD, 3.0), (unsure(Z[:1], HEAD, 3.0) + unsure(Z[1:2], HEAD, 3.0)) / 2


@doubting.law("four images, three classes, a scale of 3")
def _(unsure):
    p = (3.0 * Z @ HEAD.T).exp()
    p = p / p.sum(dim=1, keepdim=True)
    return unsure(Z, HEAD, 3.0), -(p * p.log()).sum().item() / 4


@doubting.law("a scale of 1000: quite sure of each, 0 and no NaN")
def _(unsure):
    return unsure(Z[[0, 2]], HEAD, 1000.0), 0.0


def _half_mended(z, head, scale, over_classes=False, scaled=False, added=False):
    """The broken loss with some of its three faults mended."""
    log_p = ((scale if scaled else 1.0) * z @ head.T).log_softmax(dim=1 if over_classes else 0)
    H = -(log_p.exp() * log_p)
    return (H.sum(dim=1).mean() if added else H.mean()).item()


@doubting.mistake(
    "One fault of three is mended, the side of the soft-max. `scale` is not used yet, and a mean is too wide."
)
def side_mended(z, head, scale):
    return _half_mended(z, head, scale, over_classes=True)


@doubting.mistake("One fault of three is mended, the scale. The soft-max runs over the images, and a mean is too wide.")
def scale_mended(z, head, scale):
    return _half_mended(z, head, scale, scaled=True)


@doubting.mistake("One fault of three is mended, the sum. The soft-max runs over the images, and `scale` is not used.")
def sum_mended(z, head, scale):
    return _half_mended(z, head, scale, added=True)


@doubting.mistake("Two faults are mended. The third: `.mean()` divides by the number of classes, too; add them up.")
def mean_left(z, head, scale):
    return _half_mended(z, head, scale, over_classes=True, scaled=True)


@doubting.mistake("Two faults are mended. The third: without `scale` the answers are nearly alike, whatever the image.")
def scale_left(z, head, scale):
    return _half_mended(z, head, scale, over_classes=True, added=True)


@doubting.mistake(
    "Two faults are mended. The third: the soft-max is over the images. Each *row* must add up to 1: dim=1."
)
def side_left(z, head, scale):
    return _half_mended(z, head, scale, scaled=True, added=True)


@doubting.mistake(
    "You take the entropy of the mean answer. A model that is sure of a different class each time has a high one: take "
    "each image's entropy, then the mean."
)
def entropy_of_the_mean(z, head, scale):
    p = (scale * z @ head.T).softmax(dim=1).mean(dim=0)
    return -torch.special.xlogy(p, p).sum().item()


@doubting.mistake("The entropy is in bits. `log` is the natural logarithm: nats.")
def in_bits(z, head, scale):
    return unsure(z, head, scale) / 0.6931472


@doubting.mistake("The sign is lost: p log p is negative, and the loss would reward doubt.")
def sign_lost(z, head, scale):
    return -unsure(z, head, scale)


# ---------------------------------------------------------------------------- 10.4

choosing = Exercise(
    id="10.4",
    title="What may be compared with what?",
    kind="decide",
    goal="""Somebody has so many `images` of each task, with labels or without (`needs` is "none", "unlabelled" or
"labelled": what is at hand), and knows at test time which task an image belongs to, or does not (`task_id`). Return
the position, in a table of results, of the row to take. A row is a dictionary with "needs", "images" (how many of
each task it looks at), "task_id" (whether it asks for it), "transductive" (whether it has looked at the test images),
"val" and "test" (accuracies). Whoever has labels may leave them unused. Of equals, the one with fewer images.""",
    minutes=10,
    difficulty=2,
    importance=5,
    hints=[
        "Which rows could this person not have made? There are four reasons to leave one out.",
        "The kinds of data have an order: none, unlabelled, labelled. And which accuracy is for choosing?",
        '`max(allowed, key=lambda i: (rows[i]["val"], -rows[i]["images"]))`',
    ],
)


@choosing.solution
def choose(rows, needs, images, task_id=False):
    """Position of the row to take.  rows: list of dict, needs: str, images: int, task_id: bool -> int"""
    order = ["none", "unlabelled", "labelled"]
    allowed = []
    for i, row in enumerate(rows):
        at_hand = order.index(row["needs"]) <= order.index(needs) and row["images"] <= images
        if at_hand and not row["transductive"] and (task_id or not row["task_id"]):
            allowed.append(i)
    return max(allowed, key=lambda i: (rows[i]["val"], -rows[i]["images"]))


def _row(needs, images, val, test, task_id=False, transductive=False):
    kinds = {"needs": needs, "images": images, "task_id": task_id, "transductive": transductive}
    return kinds | {"val": val, "test": test}


FREE, GRAMS = _row("none", 0, 70.0, 71.0), _row("unlabelled", 64, 74.0, 73.0)
LABELS = _row("labelled", 16, 80.0, 81.0)
KNOWS = _row("unlabelled", 16, 90.0, 89.0, task_id=True)
PEEKS = _row("unlabelled", 16, 95.0, 96.0, transductive=True)
TABLE = [FREE, GRAMS, LABELS, KNOWS, PEEKS]


@choosing.law("no data at all: the data-free one")
def _(choose):
    return choose(TABLE, "none", 0), 0


@choosing.law("64 images without labels; exactly 64 are enough for Grams")
def _(choose):
    return choose(TABLE, "unlabelled", 64), 1


@choosing.law("63 images without labels are not enough for it")
def _(choose):
    return choose(TABLE, "unlabelled", 63), 0


@choosing.law("labels, 16 images; and without the row that uses them, 64 images whose labels stay unused")
def _(choose):
    return [choose(TABLE, "labelled", 16), choose([FREE, GRAMS], "labelled", 64)], [2, 1]


@choosing.law("the task is known: the method that asks for it")
def _(choose):
    return choose(TABLE, "unlabelled", 16, task_id=True), 3


@choosing.law("better on validation, worse on test: validation chooses")
def _(choose):
    return choose([_row("none", 0, 70.0, 75.0), _row("none", 0, 72.0, 60.0)], "none", 0), 1


@choosing.law("of equals, the one with fewer images")
def _(choose):
    rows = [_row("unlabelled", 64, 74.0, 75.0), _row("unlabelled", 4, 74.0, 73.0)]
    return choose(rows, "unlabelled", 64), 1


def _without(rows, needs, images, task_id=False, kinds=True, count=True, test=True, knows=True, by="val"):
    """The choice with one reason to leave a row out forgotten, or by another accuracy."""
    rows = [
        row
        | ({} if kinds else {"needs": "none"})
        | ({} if test else {"transductive": False})
        | ({} if knows else {"task_id": False})
        | {"val": row[by]}
        for row in rows
    ]
    if not count:
        images = max(row["images"] for row in rows)
    return choose(rows, needs, images, task_id)


@choosing.mistake("You choose by the test accuracy. Then it is no longer a test: choose by validation.")
def by_test(rows, needs, images, task_id=False):
    return _without(rows, needs, images, task_id, by="test")


@choosing.mistake("A row that has looked at the test images is let in. Nobody has those images in advance.")
def peeking(rows, needs, images, task_id=False):
    return _without(rows, needs, images, task_id, test=False)


@choosing.mistake("A row that asks for the task of each test image is let in, and the task is not known.")
def task_unknown(rows, needs, images, task_id=False):
    return _without(rows, needs, images, task_id, knows=False)


@choosing.mistake("A row is let in that looks at more images than there are.")
def too_many_images(rows, needs, images, task_id=False):
    return _without(rows, needs, images, task_id, count=False)


@choosing.mistake("A row is let in that needs labels, or images, where there are none: compare the kinds of data, too.")
def kinds_ignored(rows, needs, images, task_id=False):
    return _without(rows, needs, images, task_id, kinds=False)


@choosing.mistake("Only rows of exactly this kind are let in. Whoever has labels may leave them unused.")
def exactly_this_kind(rows, needs, images, task_id=False):
    own = [row if row["needs"] == needs else row | {"val": -1.0} for row in rows]
    return choose(own, needs, images, task_id)


@choosing.mistake("Exactly as many images as there are is too many for you: `<=`.")
def one_image_short(rows, needs, images, task_id=False):
    return choose([row | {"images": row["images"] + (row["images"] > 0)} for row in rows], needs, images, task_id)


@choosing.mistake("Of equals you take the one with more images. Fewer images are the better deal.")
def more_images(rows, needs, images, task_id=False):
    return choose([row | {"val": row["val"] + 1e-6 * row["images"]} for row in rows], needs, images, task_id)


EXERCISES = [informing, answering, doubting, choosing]

# ---------------------------------------------------------------------------- quizzes

QUIZZES = [
    Quiz(
        "10.q1",
        "Two inputs of a layer are always equal on task 1. Expert 1 uses the first one alone, the other expert the "
        "second one alone. What can RegMean see that a diagonal weight cannot?",
        right="c",
        a=("which of the two experts was trained longer", "Neither looks at that. Both see inputs or gradients only."),
        b=(
            "which of the two inputs is larger on average",
            "That is the diagonal of X^T X: a diagonal weight has just this.",
        ),
        c=(
            "that for task 1 only their sum is of importance",
            "Yes: the entry off the diagonal says so, and the solve may move weight from one input to the other.",
        ),
        d=(
            "how many classes each of the two tasks contains",
            "A Gram knows inputs of a layer, and nothing of classes.",
        ),
    ),
    Quiz(
        "10.q2",
        "AdaMerging's loss goes on falling and validation accuracy falls with it. Which sentence is right?",
        right="a",
        a=(
            "The model gets surer of wrong answers",
            "Yes. Entropy asks how sure, not how right; only labels, or a held-out choice of steps, can tell.",
        ),
        b=(
            "The learning rate must be far too small",
            "A smaller step walks the same way more slowly. The loss does fall: it is the wrong thing to ask for.",
        ),
        c=(
            "The images were mixed up between tasks",
            "Then the entropy would hardly fall at all, since heads and images would not fit from the start.",
        ),
    ),
    Quiz(
        "10.q3",
        "A method is adapted to the test images without labels and beats one that saw no image. What is the fair "
        "sentence?",
        right="b",
        a=(
            "It cheated, for test images must never be looked at",
            "Labels must not be. Images without labels may, if that is how it will be used, and if it is said.",
        ),
        b=(
            "It is better for users who have the images to hand",
            "Yes: a batch that waits for its answers is a real case. For a stream of new images measure it on others.",
        ),
        c=(
            "It is better, because labels were not used at all",
            "For a user who must answer the first image at once that was not shown.",
        ),
        d=(
            "Nothing can be said, for the two needs are different",
            "They can be set side by side, as long as what each was given stands beside the number.",
        ),
    ),
]

OPEN = [
    OpenTask(
        "10.open",
        "spend a budget",
        "A hospital has eight experts, 40 images of each task, one afternoon of somebody who can label 100 of them, "
        "and a stream of images whose task is known for half of them. Write down what you would merge with, which "
        "images go where (adapting, choosing, reporting), and which number would make you change your mind.",
        [
            "Images for adapting, for choosing and for the last number are three sets, and their sizes are given.",
            "A data-free method and plain fine-tuning on the same labels stand in the table as controls.",
            "The two halves of the stream are reported apart: one may use the task, the other may not.",
            "The sampling error of the smallest set is worked out before a difference is believed.",
        ],
    )
]
