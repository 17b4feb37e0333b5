"""Exercises of notebook 00: zero-shot by hand, averaging experts, reading a leaderboard."""

import torch

from ..exercise import Exercise, OpenTask, Quiz

# ---------------------------------------------------------------------------- 00.1

zero_shot = Exercise(
    id="00.1",
    title="Zero-shot by hand",
    goal="Give each image the class whose caption points in the most similar direction (largest cosine).",
    minutes=10,
    difficulty=2,
    importance=4,
    hints=[
        "A cosine compares directions: what has to happen to long and short caption vectors first?",
        "`images @ captions.T` is an (n, C) table: one row for each image. Along which side is the largest?",
        "Divide captions by `captions.norm(dim=1, keepdim=True)`, multiply, then `.argmax(dim=1)`.",
    ],
)


@zero_shot.solution
def classify(images, captions):
    """The class of each image.  images: (n, d), captions: (C, d), one vector a class -> (n,) integers 0..C-1"""
    captions = captions / captions.norm(dim=1, keepdim=True)
    return (images @ captions.T).argmax(dim=1)


IMAGES = torch.tensor([[2.0, 0.1], [0.2, 3.0], [-1.0, 0.3]])  # right, up, left
CAPTIONS = torch.tensor([[1.0, 0.0], [0.0, 1.0]])


@zero_shot.law("one image, two captions")
def _(classify):
    return classify(IMAGES[:1], CAPTIONS), torch.tensor([0])


@zero_shot.law("three images, two captions, by hand")
def _(classify):
    return classify(IMAGES, CAPTIONS), torch.tensor([0, 1, 1])


@zero_shot.law("a longer caption vector must not win for its length")
def _(classify):
    return classify(torch.tensor([[1.0, 0.5]]), torch.tensor([[1.0, 0.0], [0.0, 10.0]])), torch.tensor([0])


@zero_shot.law("a caption is a row: (1, 2) points more towards (1, 1) than (10, 1) does")
def _(classify):
    return classify(torch.tensor([[1.0, 1.0]]), torch.tensor([[10.0, 1.0], [1.0, 2.0]])), torch.tensor([1])


@zero_shot.law("neither the length of images nor that of captions matters")
def _(classify):
    images, captions = torch.randn(7, 4), torch.randn(3, 4)
    longer = captions * torch.tensor([[0.2], [5.0], [1.0]])
    return classify(3.0 * images, longer), classify(images, captions)


@zero_shot.mistake("You compare inner products: the longest caption wins. Divide each caption by its norm first.")
def captions_not_normalised(images, captions):
    return (images @ captions.T).argmax(dim=1)


@zero_shot.mistake("You look for the best image of each caption. Look along the captions: dim=1 of the (n, C) table.")
def best_image_of_each_caption(images, captions):
    captions = captions / captions.norm(dim=1, keepdim=True)
    return (images @ captions.T).argmax(dim=0)


@zero_shot.mistake("You return the similarity itself. The class is the position of the largest one: argmax, not max.")
def similarity_not_class(images, captions):
    captions = captions / captions.norm(dim=1, keepdim=True)
    return (images @ captions.T).max(dim=1).values


@zero_shot.mistake("You pick the least similar caption: for a cosine, large means similar.")
def least_similar(images, captions):
    captions = captions / captions.norm(dim=1, keepdim=True)
    return (images @ captions.T).argmin(dim=1)


@zero_shot.mistake("You return the whole (n, C) table. Choose one class in each row.")
def whole_table(images, captions):
    images, captions = images / images.norm(dim=1, keepdim=True), captions / captions.norm(dim=1, keepdim=True)
    return images @ captions.T


@zero_shot.mistake(
    "That is the (n, C) table of cosines, but for the length of the images. Choose one class in each row."
)
def table_not_chosen_from(images, captions):
    return images @ (captions / captions.norm(dim=1, keepdim=True)).T


@zero_shot.mistake("You return the largest cosine. The class is its position in the row: argmax, not max.")
def largest_cosine(images, captions):
    return whole_table(images, captions).max(dim=1).values


@zero_shot.mistake("You normalise along dim=0, the columns. Each caption is a row: dim=1.")
def columns_normalised(images, captions):
    captions = captions / captions.norm(dim=0, keepdim=True)
    return (images @ captions.T).argmax(dim=1)


# ---------------------------------------------------------------------------- 00.2

averaging = Exercise(
    id="00.2",
    title="Mend the average",
    kind="repair",
    goal="This program should merge in the simplest way there is: average the weights of all experts, name by name. It "
    "runs, and two things are wrong with it: from the third expert on its average is none, and it harms whoever calls "
    "it. Find both and mend them.",
    minutes=8,
    difficulty=2,
    importance=5,
    hints=[
        "Work out by hand what it does to three models of one number: 0, 0 and 9. How much does each of them count?",
        "After `merged = thetas[0]`, whose dictionary does `merged[k] = ...` write into?",
        "`{k: sum(theta[k] for theta in thetas) / len(thetas) for k in thetas[0]}`",
    ],
)


@averaging.solution
def average(thetas):
    """The mean of N models.  thetas: list of N dicts of tensors with the same names -> dict"""
    return {k: sum(theta[k] for theta in thetas) / len(thetas) for k in thetas[0]}


@averaging.broken
def broken_average(thetas):
    """The mean of N models.  thetas: list of N dicts of tensors with the same names -> dict"""
    merged = thetas[0]
    for theta in thetas[1:]:
        for k in merged:
            merged[k] = (merged[k] + theta[k]) / 2
    return merged


def _model(w: list, b: list) -> dict[str, torch.Tensor]:
    return {"w": torch.tensor(w), "b": torch.tensor(b)}


A = _model([[1.0, 0.0, 2.0], [3.0, -1.0, 5.0]], [0.0, 4.0])
B = _model([[3.0, 2.0, 2.0], [1.0, 0.0, -5.0]], [2.0, 1.0])
C = _model([[5.0, 1.0, 8.0], [2.0, 7.0, 3.0]], [7.0, -2.0])


@averaging.law("two models of one tensor, by hand")
def _(average):
    return average([{"w": torch.tensor([1.0, 4.0])}, {"w": torch.tensor([3.0, 0.0])}]), {"w": torch.tensor([2.0, 2.0])}


@averaging.law("the average of one model is that model")
def _(average):
    return average([A]), A


@averaging.law("three experts, two tensors")
def _(average):
    return average([A, B, C]), _model([[3.0, 1.0, 4.0], [2.0, 2.0, 1.0]], [3.0, 1.0])


@averaging.law("the order of the experts does not matter")
def _(average):
    return average([C, A, B]), average([A, B, C])


@averaging.mistake("You return the sum: divide by the number of experts.")
def sum_not_mean(thetas):
    return {k: sum(theta[k] for theta in thetas) for k in thetas[0]}


@averaging.mistake("You always divide by 2. Divide by the number of experts, len(thetas).")
def always_by_two(thetas):
    return {k: sum(theta[k] for theta in thetas) / 2 for k in thetas[0]}


@averaging.mistake(
    "The caller's models are safe now. But you still average pair by pair, so the last expert counts half: add all of "
    "them first, then divide once."
)
def pair_by_pair(thetas):
    merged = dict(thetas[0])
    for theta in thetas[1:]:
        merged = {k: (merged[k] + theta[k]) / 2 for k in merged}
    return merged


@averaging.mistake("You average only the first two experts: loop over the whole list.")
def first_two_only(thetas):
    return {k: (thetas[0][k] + thetas[min(1, len(thetas) - 1)][k]) / 2 for k in thetas[0]}


@averaging.mistake("You average the entries inside each tensor as well. The mean runs over the experts, shapes stay.")
def mean_over_entries(thetas):
    return {k: sum(theta[k].mean() for theta in thetas) / len(thetas) for k in thetas[0]}


@averaging.mistake(
    "The average is right now. But `merged` is still the first expert itself, which the caller wants to keep: start "
    "from a new dictionary of new tensors."
)
def added_into_the_first(thetas):
    merged = thetas[0]
    for k in merged:
        for theta in thetas[1:]:
            merged[k] += theta[k]
        merged[k] /= len(thetas)
    return merged


@averaging.mistake("You divide by the number of tensors in a model, len(thetas[0]). Divide by that of the experts.")
def divided_by_tensors(thetas):
    return {k: sum(theta[k] for theta in thetas) / len(thetas[0]) for k in thetas[0]}


# ---------------------------------------------------------------------------- 00.3

reading = Exercise(
    id="00.3",
    title="Normalised accuracy",
    kind="decide",
    goal="One number that says how much of its experts' accuracy a merged model keeps, in %. It must be 100 if the "
    "model "
    "is as good as every expert, on easy and hard tasks alike; every task counts the same; and a model that beats an "
    "expert is rewarded for it.",
    minutes=5,
    difficulty=2,
    importance=4,
    hints=[
        "A merged model that is as good as every expert keeps 100 %, on easy and hard tasks alike.",
        "First one share for each task, then their mean: the mean of ratios, not the ratio of means.",
        "`100 * (merged / experts).mean()`",
    ],
)


@reading.solution
def normalised_accuracy(merged, experts):
    """How much is kept, on average.  merged, experts: (tasks,) accuracies in %, experts' above 0 -> float in %"""
    return float(100 * (merged / experts).mean())


@reading.law("as good as the experts is 100 %, also where the experts are weak")
def _(normalised_accuracy):
    return normalised_accuracy(torch.tensor([90.0, 30.0]), torch.tensor([90.0, 30.0])), 100.0


@reading.law("one task: 60 % where the expert has 80 % is 75 %")
def _(normalised_accuracy):
    return normalised_accuracy(torch.tensor([60.0]), torch.tensor([80.0])), 75.0


@reading.law("every task counts the same: shares 50 % and 100 % give 75 %")
def _(normalised_accuracy):
    return normalised_accuracy(torch.tensor([45.0, 30.0]), torch.tensor([90.0, 30.0])), 75.0


@reading.law("a merged model may beat an expert: shares 120 %, 60 % and 90 %")
def _(normalised_accuracy):
    return normalised_accuracy(torch.tensor([60.0, 54.0, 36.0]), torch.tensor([50.0, 90.0, 40.0])), 90.0


@reading.mistake("You divide the mean by the mean: easy tasks then weigh more. Divide task by task, then average.")
def ratio_of_means(merged, experts):
    return float(100 * merged.mean() / experts.mean())


@reading.mistake("The fraction is upside down: merged over expert, so less than 100 % means that something was lost.")
def upside_down(merged, experts):
    return float(100 * (experts / merged).mean())


@reading.mistake("You return a fraction between 0 and 1. Multiply by 100: it is asked for in %.")
def fraction_not_percent(merged, experts):
    return float((merged / experts).mean())


@reading.mistake("That is the loss in points. A share is a quotient: 60 of 80 points is 75 %.")
def points_lost(merged, experts):
    return float((experts - merged).mean())


@reading.mistake("You cut shares off at 100 %. A merged model may be better than an expert: let it count.")
def capped_at_100(merged, experts):
    return float(100 * (merged / experts).clamp(max=1.0).mean())


EXERCISES = [zero_shot, averaging, reading]

QUIZZES = [
    Quiz(
        "00.q1",
        "What does model merging promise?",
        right="b",
        a=(
            "One model, better than each of the experts at that expert's own task.",
            "That happens, but rarely: experts are the bar that merging tries to reach.",
        ),
        b=(
            "One model for all the tasks, without any training on their data.",
            "That is the promise; its price is some accuracy on each task, which the leaderboard shows.",
        ),
        c=(
            "One answer for each image, the average of what all the experts say.",
            "That is an ensemble: it needs every expert at test time. Merging averages weights, not answers.",
        ),
    ),
    Quiz(
        "00.q2",
        "Two merged models have the same average on the experts' tasks. One has OOD 80, the other 95. What may "
        "explain it?",
        right="a",
        a=(
            "The first moved further from the base, and lost more of what the base could do.",
            "Yes: the same gain at home can be bought at different prices. H, the harmonic mean of both, sees it.",
        ),
        b=(
            "The second was merged from experts that had seen the out-of-domain tasks, too.",
            "Both are made of the same experts; none of them was trained on an out-of-domain task.",
        ),
        c=(
            "The second got its lam from the images of the out-of-domain tasks, the first did not.",
            "Nothing is ever chosen there: the validation split of the experts' own tasks decides.",
        ),
    ),
]

OPEN = [
    OpenTask(
        "00.open",
        "which row would you ship?",
        "A hospital wants *one* model for eight kinds of images that are known today and for others that will come. "
        "Which "
        "row of the leaderboard above would you hand over, at which lam, and why? Which two numbers that are *not* "
        "in the "
        "table would you ask for first?",
        [
            "It names a row and a scale, and gives the numbers of the table that speak for it and against it.",
            "It says what the mean hides: the worst task, or the spread over tasks.",
            "It weighs home against abroad for this customer, and does not leave that to H.",
            "The numbers asked for could change the decision: seeds, the size of the test sets, the worst task, "
            "memory.",
        ],
    )
]
