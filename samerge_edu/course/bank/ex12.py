"""Exercises of notebook 12: heads made of text, numbers beside published ones, two names for one tensor."""

import torch

from ..exercise import SHAPES, Exercise, OpenTask, Quiz

# ---------------------------------------------------------------------------- 12.1

heads = Exercise(
    id="12.1",
    errors={
        SHAPES: "A class has (templates, dim) features; its head has (dim,), and the heads are stacked to "
        "(classes, dim)."
    },
    title="Class heads from text",
    goal="""Build the classifier of a task from its class names and templates. `embed` is the text tower: it takes a
list of n captions and returns (n, dim) features of any length. For each class: fill its name into every template,
embed, bring each feature to length 1, average over the templates, bring the average to length 1 again.""",
    minutes=10,
    difficulty=2,
    importance=5,
    hints=[
        "Work on one class at a time: its captions go through `embed` together and give (templates, dim).",
        "Length 1 twice: `torch.nn.functional.normalize(z, dim=-1)` before the mean over `dim=0`, and after it.",
        "`z = normalize(embed([t.format(name) for t in templates]), dim=-1)`, then `normalize(z.mean(dim=0), dim=-1)`",
    ],
)


@heads.solution
def zero_shot_head(embed, classes, templates):
    """w, one row of length 1 for each class.  embed: list of n captions -> (n, dim) -> (classes, dim)"""
    from torch.nn.functional import normalize

    rows = []
    for name in classes:
        z = normalize(embed([template.format(name) for template in templates]), dim=-1)  # (templates, dim)
        rows.append(normalize(z.mean(dim=0), dim=-1))
    return torch.stack(rows)


def by_hand(captions):
    """Captions whose features are easy to reckon with."""
    features = {"a cat": [3.0, 4.0], "the cat": [0.0, 2.0], "cat": [2.0, 0.0]}
    return torch.tensor([features[caption] for caption in captions])


def letters(captions):
    """(n, 5): how often a, e, o, r and t occur, plus something for the order of the letters."""
    return torch.tensor([[c.count(x) + 0.01 * c.find(x) for x in "aeort"] for c in captions])


@heads.law("one class, two templates, by hand: (0.6, 0.8) and (0, 1) have the mean (0.3, 0.9)")
def _(zero_shot_head):
    got = zero_shot_head(by_hand, ["cat"], ["a {}", "the {}"])
    return got, torch.tensor([[0.3, 0.9]]) / 0.9**0.5


@heads.law("with one template: the features' directions, one row for each class")
def _(zero_shot_head):
    got = zero_shot_head(letters, ["otter", "parrot", "tree"], ["a photo of a {}"])
    z = letters(["a photo of a otter", "a photo of a parrot", "a photo of a tree"])
    return got, z / z.norm(dim=1, keepdim=True)


@heads.law("three classes, two templates: a class's head does not depend on the other classes")
def _(zero_shot_head):
    classes, templates = ["otter", "rat", "tree"], ["a photo of a {}", "{} at the zoo"]
    alone = torch.cat([zero_shot_head(letters, [name], templates) for name in classes])
    return zero_shot_head(letters, classes, templates), alone


@heads.law("every head has length 1")
def _(zero_shot_head):
    return zero_shot_head(letters, ["otter", "rat", "tree"], ["a {}", "the old {}"]).norm(dim=1), torch.ones(3)


@heads.mistake("The mean of several features of length 1 is shorter than 1: normalise once more after the mean.")
def not_normalised_after_the_mean(embed, classes, templates):
    from torch.nn.functional import normalize

    rows = [normalize(embed([t.format(name) for t in templates]), dim=-1).mean(dim=0) for name in classes]
    return torch.stack(rows)


@heads.mistake("A long feature outvotes a short one in your mean. Bring each caption's feature to length 1 before it.")
def not_normalised_before_the_mean(embed, classes, templates):
    from torch.nn.functional import normalize

    return torch.stack([normalize(embed([t.format(name) for t in templates]).mean(dim=0), dim=-1) for name in classes])


@heads.mistake("Only the first template is used. Every template gives a caption; the head is their average.")
def first_template_only(embed, classes, templates):
    from torch.nn.functional import normalize

    return normalize(embed([templates[0].format(name) for name in classes]), dim=-1)


@heads.mistake(
    "The captions are in the order template by template, but you cut them into classes: features of different classes "
    "are averaged. Put the loop over classes outside."
)
def loops_swapped(embed, classes, templates):
    from torch.nn.functional import normalize

    z = normalize(embed([t.format(name) for t in templates for name in classes]), dim=-1)
    return normalize(z.reshape(len(classes), len(templates), -1).mean(dim=1), dim=-1)


@heads.mistake("You normalise over the templates (dim=0). The length of a feature is taken over its entries: dim=-1.")
def normalised_over_the_templates(embed, classes, templates):
    from torch.nn.functional import normalize

    rows = [normalize(embed([t.format(name) for t in templates]), dim=0).mean(dim=0) for name in classes]
    return normalize(torch.stack(rows), dim=-1)


@heads.mistake("The class name never gets into the caption: fill it in with `template.format(name)`.")
def bare_class_names(embed, classes, templates):
    from torch.nn.functional import normalize

    return normalize(embed(list(classes)), dim=-1)


# ---------------------------------------------------------------------------- 12.2

compare = Exercise(
    id="12.2",
    title="Beside the published table",
    kind="decide",
    goal="""Compare your accuracies with a published table, and only where that means something. `ours` is method ->
task -> accuracy; `published` is a list of rows, each a dictionary with "method", "family", "average" (over all of its
tasks) and "tasks" (task -> accuracy, empty where the paper prints the average alone). Return method -> ours minus
theirs, as the mean over *your* tasks, not rounded. A row counts only if its family is exactly yours and it prints every
one of your tasks. If several rows of a method count, the last one does: tables are corrected by adding a row.
""",
    minutes=10,
    difficulty=2,
    importance=4,
    hints=[
        "Go through the published rows. Which of them must you skip? There are three reasons.",
        "Skip a row of another family, one for a method you do not have, one that lacks a task of yours.",
        'For a row that is left: `mean(ours[m][t] for t in ours[m]) - mean(row["tasks"][t] for t in ours[m])`.',
    ],
)


@compare.solution
def against_published(ours, family, published):
    """Ours minus theirs, in points.  ours: method -> task -> accuracy, published: list of rows -> method -> number"""
    differences = {}
    for row in published:
        mine = ours.get(row["method"])
        if mine is None or row["family"] != family or not set(mine) <= set(row["tasks"]):
            continue
        differences[row["method"]] = sum(mine[t] - row["tasks"][t] for t in mine) / len(mine)
    return differences


OURS = {"zero-shot": {"a": 40.0, "b": 30.0}, "Average": {"a": 70.0, "b": 61.0}, "TIES": {"a": 74.0, "b": 70.0}}
ROWS = [
    {"method": "Average", "family": "FB", "average": 66.0, "tasks": {"a": 72.0, "b": 58.0, "c": 68.0}},
    {"method": "Average", "family": "TA", "average": 60.0, "tasks": {"a": 65.0, "b": 55.0, "c": 60.0}},
    {"method": "TIES", "family": "FB", "average": 75.0, "tasks": {}},
    {"method": "TIES", "family": "TA", "average": 73.0, "tasks": {"a": 72.0, "c": 74.0}},
    {"method": "zero-shot", "family": "TA", "average": 38.0, "tasks": {"a": 40.0, "b": 31.0, "c": 43.0}},
    {"method": "RegMean", "family": "FB", "average": 82.0, "tasks": {"a": 85.0, "b": 80.0, "c": 81.0}},
]


@compare.law("one row of our family: (70 - 72 + 61 - 58) / 2 = +0.5; the other family's row does not count")
def _(against_published):
    return against_published({"Average": OURS["Average"]}, "FB", ROWS[:2]), {"Average": 0.5}


@compare.law("a row without single tasks, or without one of ours, is left out")
def _(against_published):
    return against_published(OURS, "FB", ROWS), {"Average": 0.5}


@compare.law("the other family: two rows that count, one that lacks a task")
def _(against_published):
    return against_published(OURS, "TA", ROWS), {"Average": 5.5, "zero-shot": -0.5}


@compare.law("a row with exactly our tasks counts; nothing is rounded")
def _(against_published):
    rows = [{"method": "TIES", "family": "FB", "average": 70.0, "tasks": {"a": 70.12, "b": 69.5}}]
    return against_published({"TIES": {"a": 70.0, "b": 70.0}}, "FB", rows), {"TIES": 0.19}


@compare.law("a family whose name contains ours, or is contained in it, is another one")
def _(against_published):
    rows = [
        {"method": "TIES", "family": name, "average": x, "tasks": {"a": x}} for name, x in (("FB-L", 60.0), ("F", 65.0))
    ]
    return against_published({"TIES": {"a": 70.0}}, "FB", rows), {}


@compare.law("two rows of one method that both count: the last one")
def _(against_published):
    rows = [{"method": "TIES", "family": "FB", "average": x, "tasks": {"a": x}} for x in (60.0, 68.0)]
    return against_published({"TIES": {"a": 70.0}}, "FB", rows), {"TIES": 2.0}


@compare.law("a family that nobody published on has nothing to compare with")
def _(against_published):
    return against_published(OURS, "tiny", ROWS), {}


@compare.mistake("You compare across families: the same method differs by several points between them. Skip such rows.")
def families_mixed(ours, family, published):
    differences = {}
    for row in published:
        mine = ours.get(row["method"])
        if mine is not None and set(mine) <= set(row["tasks"]):
            differences[row["method"]] = sum(mine[t] - row["tasks"][t] for t in mine) / len(mine)
    return differences


@compare.mistake('You take the row\'s "average", which is over all of its tasks. Average over yours: row["tasks"][t].')
def whole_average(ours, family, published):
    return {
        row["method"]: sum(ours[row["method"]].values()) / len(ours[row["method"]]) - row["average"]
        for row in published
        if row["method"] in ours and row["family"] == family and set(ours[row["method"]]) <= set(row["tasks"])
    }


@compare.mistake("You keep the first row of a method. The last one counts: it may be a correction.")
def first_row_wins(ours, family, published):
    return against_published(ours, family, published[::-1])


@compare.mistake("You round the differences. Leave that to whoever prints them.")
def rounded(ours, family, published):
    return {m: round(d, 1) for m, d in against_published(ours, family, published).items()}


@compare.mistake("You accept a family whose name contains ours (`in`). ViT-B is not ViT-B-16: compare with `==`.")
def name_contains_ours(ours, family, published):
    rows = [row | {"family": family} if family in row["family"] else row for row in published]
    return against_published(ours, family, rows)


@compare.mistake("You accept a family whose name is a part of ours (`in`). Compare with `==`.")
def name_is_part_of_ours(ours, family, published):
    rows = [row | {"family": family} if row["family"] in family else row for row in published]
    return against_published(ours, family, rows)


@compare.mistake("The sign is turned round: ours minus theirs, so that a positive number means we are better.")
def theirs_minus_ours(ours, family, published):
    return {m: -d for m, d in against_published(ours, family, published).items()}


@compare.mistake("You fill gaps with the row's average where single tasks are missing. Such a row cannot be compared.")
def gaps_filled(ours, family, published):
    differences = {}
    for row in published:
        mine = ours.get(row["method"])
        if mine is not None and row["family"] == family:
            differences[row["method"]] = sum(mine[t] - row["tasks"].get(t, row["average"]) for t in mine) / len(mine)
    return differences


@compare.mistake(
    "You compare over the tasks that both have. A mean over fewer tasks is another quantity: skip the row."
)
def common_tasks(ours, family, published):
    differences = {}
    for row in published:
        mine = ours.get(row["method"], {})
        both = mine.keys() & row["tasks"].keys()
        if both and row["family"] == family:
            differences[row["method"]] = sum(mine[t] - row["tasks"][t] for t in both) / len(both)
    return differences


@compare.mistake("You return the sum over the tasks. Divide by their number: a table prints means.")
def summed(ours, family, published):
    found = against_published(ours, family, published)
    return {m: d * len(ours[m]) for m, d in found.items()}


# ---------------------------------------------------------------------------- 12.3

fuse = Exercise(
    id="12.3",
    title="Mend the loader",
    kind="repair",
    goal="""Read attention block i of a Hugging Face vision tower under open_clip's names. Hugging Face keeps three
matrices and three biases, `encoder.layers.{i}.self_attn.q_proj.weight` and so on for q, k, v, and an `out_proj` beside
them; open_clip keeps one matrix `in_proj_weight` and one `in_proj_bias`: the rows of q come first, then those of k,
then those of v. This loader was tested on a model of two blocks without `out_proj`, where all shapes came out right.
Three things in it are wrong. Find and mend them.""",
    errors={"KeyError": "The name is `encoder.layers.{i}.self_attn.{x}_proj.weight`, x one of q, k, v, and `.bias`."},
    minutes=10,
    difficulty=3,
    importance=4,
    hints=[
        "Print `names` for block 1 of a model of twelve blocks. How many are there, and in which order?",
        "`'layers.1' in 'layers.10'` is true. And in the alphabet k comes before q.",
        'Name what you want: `torch.cat([hf[f"encoder.layers.{i}.self_attn.{x}_proj.{kind}"] for x in "qkv"])`',
    ],
)


@fuse.solution
def fused(hf, i):
    """The joined projection of block i.  hf: dict of tensors -> {"in_proj_weight": (3w, w), "in_proj_bias": (3w,)}"""
    return {
        f"in_proj_{kind}": torch.cat([hf[f"encoder.layers.{i}.self_attn.{x}_proj.{kind}"] for x in "qkv"])
        for kind in ("weight", "bias")
    }


@fuse.broken
def broken_fused(hf, i):
    """The joined projection of block i.  hf: dict of tensors -> {"in_proj_weight": (3w, w), "in_proj_bias": (3w,)}"""
    joined = {}
    for kind in ("weight", "bias"):
        names = sorted(name for name in hf if f"layers.{i}" in name and name.endswith(f"_proj.{kind}"))
        joined[f"in_proj_{kind}"] = torch.cat([hf[name] for name in names])
    return joined


def layer(i, x):
    """Made-up q, k, v or output of block i: (2, 3), so that rows and columns cannot be confused."""
    start = 100.0 * i + {"q": 0, "k": 20, "v": 40, "out": 60}[x]
    return torch.arange(start, start + 6).reshape(2, 3)


def hf_model(blocks=12, parts=("q", "k", "v", "out")):
    model = {}
    for i in range(blocks):
        for x in parts:
            model[f"encoder.layers.{i}.self_attn.{x}_proj.weight"] = layer(i, x)
            model[f"encoder.layers.{i}.self_attn.{x}_proj.bias"] = layer(i, x)[:, 0] + 0.5
    return model


@fuse.law("one number each: q = 1, k = -2, v = 3, biases 0.1, 0.2, 0.3")
def _(fused):
    name = "encoder.layers.0.self_attn."
    hf = {f"{name}{x}_proj.weight": torch.tensor([[n]]) for x, n in zip("qkv", (1.0, -2.0, 3.0), strict=True)}
    hf |= {f"{name}{x}_proj.bias": torch.tensor([n]) for x, n in zip("qkv", (0.1, 0.2, 0.3), strict=True)}
    expected = {"in_proj_weight": torch.tensor([[1.0], [-2.0], [3.0]]), "in_proj_bias": torch.tensor([0.1, 0.2, 0.3])}
    return fused(hf, 0), expected


@fuse.law("the joined layer computes q, k and v one after the other")
def _(fused):
    hf, x = hf_model(), torch.tensor([1.0, -2.0, 0.5])
    got = fused(hf, 1)
    outputs = [
        hf[f"encoder.layers.1.self_attn.{p}_proj.weight"] @ x + hf[f"encoder.layers.1.self_attn.{p}_proj.bias"]
        for p in "qkv"
    ]
    W = got["in_proj_weight"]
    return (W @ x + got["in_proj_bias"] if W.shape == (6, 3) else W), torch.cat(outputs)


@fuse.law("block 2, entry by entry")
def _(fused):
    weights = [layer(2, x) for x in "qkv"]
    return fused(hf_model(), 2), {
        "in_proj_weight": torch.cat(weights),
        "in_proj_bias": torch.cat([w[:, 0] + 0.5 for w in weights]),
    }


@fuse.law("block 1 of a model of twelve: not block 10, not block 11")
def _(fused):
    hf = hf_model(parts=("q", "k", "v"))
    return fused(hf, 1)["in_proj_weight"], torch.cat([layer(1, x) for x in "qkv"])


@fuse.law("two blocks, with out_proj: it is no part of the joined projection")
def _(fused):
    return fused(hf_model(2), 1)["in_proj_bias"], torch.cat([layer(1, x)[:, 0] + 0.5 for x in "qkv"])


def _half_mended(hf, i, order=False, block=False, out=False):
    """The broken loader with some of its three faults mended."""
    joined = {}
    for kind in ("weight", "bias"):
        names = [n for n in hf if (f"layers.{i}." if block else f"layers.{i}") in n and n.endswith(f"_proj.{kind}")]
        names = sorted(n for n in names if not (out and "out_proj" in n))
        if order:
            names.sort(key=lambda n: ("q_proj" not in n, "k_proj" not in n, "v_proj" not in n))
        joined[f"in_proj_{kind}"] = torch.cat([hf[n] for n in names])
    return joined


@fuse.mistake(
    "One fault of three is mended, the order. `layers.1` still finds blocks 10 and 11, and `out_proj` comes in."
)
def order_mended(hf, i):
    return _half_mended(hf, i, order=True)


@fuse.mistake(
    "One fault of three is mended, the block's number. The order is that of the alphabet, and `out_proj` comes in."
)
def block_mended(hf, i):
    return _half_mended(hf, i, block=True)


@fuse.mistake(
    "One fault of three is mended, `out_proj`. The order is that of the alphabet, and `layers.1` finds block 10."
)
def out_proj_mended(hf, i):
    return _half_mended(hf, i, out=True)


@fuse.mistake(
    "Two faults are mended. The third: `layers.1` is also a part of `layers.10`. Put the dot behind the number."
)
def block_left(hf, i):
    return _half_mended(hf, i, order=True, out=True)


@fuse.mistake(
    "Two faults are mended. The third: `out_proj` ends like the others, but open_clip keeps it under its own name."
)
def out_proj_left(hf, i):
    return _half_mended(hf, i, order=True, block=True)


@fuse.mistake(
    "Two faults are mended. The third: in the alphabet k comes before q. Nothing fails, for the shapes agree; only the "
    "attention is wrong."
)
def alphabetical_order(hf, i):
    return _half_mended(hf, i, block=True, out=True)


@fuse.mistake(
    "You join along the columns, which are inputs. All three read the same x: their outputs, the rows, add up."
)
def along_the_columns(hf, i):
    return {
        f"in_proj_{kind}": torch.cat([hf[f"encoder.layers.{i}.self_attn.{x}_proj.{kind}"] for x in "qkv"], dim=-1)
        for kind in ("weight", "bias")
    }


@fuse.mistake("The matrices are transposed on the way. Both libraries store (out, in): join them as they are.")
def transposed(hf, i):
    got = fused(hf, i)
    return got | {"in_proj_weight": torch.cat([hf[f"encoder.layers.{i}.self_attn.{x}_proj.weight"].T for x in "qkv"])}


@fuse.mistake("The rows of q, k and v alternate. open_clip wants all of q first, then all of k, then all of v.")
def interleaved(hf, i):
    return {
        f"in_proj_{kind}": torch.stack(
            [hf[f"encoder.layers.{i}.self_attn.{x}_proj.{kind}"] for x in "qkv"], dim=1
        ).flatten(0, 1)
        for kind in ("weight", "bias")
    }


@fuse.mistake("Every block gets the tensors of block 0: put `i` into the name.")
def block_0_only(hf, i):
    return fused(hf, 0)


@fuse.mistake("The biases are left at zero. They were fine-tuned, too: join them as the weights.")
def biases_forgotten(hf, i):
    got = fused(hf, i)
    return got | {"in_proj_bias": torch.zeros_like(got["in_proj_bias"])}


EXERCISES = [heads, compare, fuse]

# ---------------------------------------------------------------------------- quizzes

QUIZZES = [
    Quiz(
        "12.q1",
        "A machine has 12 GB of memory. The base and each of 8 experts have 304 million numbers in float32 (ViT-L/14). "
        "The largest tensor has 4.2 million. Which merge cannot be done there without running out of memory?",
        right="c",
        a=(
            "Task Arithmetic in float32, one tensor after the other",
            "That needs (8 + 2) tensors of 17 MB, 0.17 GB, whatever the number of layers.",
        ),
        b=(
            "Task Arithmetic on half-precision copies of all models",
            "2 bytes a number: 10 x 0.6 GB = 6 GB. It fits, though each sum is better taken in float32.",
        ),
        c=(
            "TIES in float32, all of the task vectors held at once",
            "Yes: 8 task vectors of 1.2 GB, the base and the result are 12.2 GB, and the ranking needs room besides. "
            "One trim over the whole model cannot be cut into tensors; the way out is to read the files once more for "
            "each pass.",
        ),
        d=(
            "TSV-M in float32, with one SVD for each of the tensors",
            "Its singular values are of one matrix at a time, so it streams, too.",
        ),
    ),
    Quiz(
        "12.q2",
        "A colleague merges FusionBench's eight ViT-B/32 experts by Task Arithmetic (lam = 0.3) and gets 68.0. "
        "A paper's table says 69.1 for Task Arithmetic. What do you look at first?",
        right="b",
        a=(
            "The colleague's code: a point is missing.",
            "Nothing points to a bug: 68.0 is what FusionBench itself prints for these experts.",
        ),
        b=(
            "The paper's experts: who trained them?",
            "Yes. 69.1 belongs to the Task Arithmetic authors' experts, 68.0 to FusionBench's: two training runs.",
        ),
        c=(
            "The paper's lam: was it chosen on test?",
            "That cannot be read from these two numbers: the experts differ, which is reason enough.",
        ),
    ),
]

OPEN = [
    OpenTask(
        "12.open",
        "plan a run that somebody pays for",
        "You have 40 GB of disk, 16 GB of memory, no GPU and one weekend, and are asked for a table of five methods "
        "on real "
        "experts. Write the plan: which model family, experts, tasks and images, how long each part takes (from the "
        "forecasts "
        "of this notebook), which published row you will compare with, and what you will do if your number is two "
        "points off.",
        [
            "Every size and time is a forecast of this notebook, or marked as a guess.",
            "Methods that need all models at once are told from those that stream.",
            "The comparison names family, tasks, number of experts and scale, or says that none is possible.",
            "The two points have a list of suspects in the order of how cheap they are to check: activation, heads, "
            "splits, lam.",
        ],
    )
]
