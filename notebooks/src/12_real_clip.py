# %% [markdown]
# # 12 Real CLIP: published experts, published numbers
#
# **You will be able to**
#
# * say before you start what a merge of real experts costs in downloads and in memory, and cut it down;
# * build the classifier of any task from class names and templates;
# * merge models that you never hold in memory, into one file that open_clip loads;
# * put your numbers beside a published table, and say which rows mean something and why yours differ.
#
# **Needs** notebooks 01 and 02. **Minutes** {reading} to read, {exercises} for the exercises. On Colab choose a T4 (Runtime, Change runtime
# type) and File, Save a copy in Drive, before you start. With the real experts it fetches 2.0 GB of models and about
# 0.2 GB of images, once; minutes on a T4, which nobody has measured yet. What you read here was executed on a miniature, in
# half a minute: the line under the first cell below says which of the two is running.

# %%
import json
import os
import pathlib
import tempfile

import open_clip

from samerge_edu.course.drawings import d12
from samerge_edu.evaluate import scores
from samerge_edu.suites.published import names
from samerge_edu.suites.published.manifest import SUITES, WORKSHOP

name = os.environ.get("SAMERGE_CLIP", "vit-b-32")  # the real experts, unless SAMERGE_CLIP names another suite
os.environ["SAMERGE_SUITE"] = name  # se.show compares with numbers of the same suite, if there are any
device = "cuda" if torch.cuda.is_available() else "cpu"
model, lora = SUITES[name]
TASKS = WORKSHOP  # four small ones; 8 for the literature's eight (3.4 GB of models, 8.7 GB of images)
PER_CLASS = 25  # images of each class at most; None for whole test sets (read anew at each pass where memory is short)
print(f"This notebook leaves the pocket suite: {name} ({model}{', LoRA' if lora else ''}), tasks {', '.join(WORKSHOP)}")

# %% [markdown]
# If the line above says `vit-b-32`, everything below is the real thing: OpenAI's CLIP and four of FusionBench's experts.
#
# If it says `vit-tiny`, you are looking at a run without a network: a miniature in exactly the same format, with 114,000
# parameters, random text features and made-up images, served by this very machine. **Its accuracies say nothing about
# CLIP**; each cell and each file format is the same. The accuracies that are stored in this notebook come from there: the
# project is built and tested where no hub can be reached. Run the notebook to replace them with yours. Shapes, sizes,
# forecasts, the tables of published numbers and the section on half precision are the real ones in any case. (From a checkout you
# can serve the miniature yourself: `python tests/hub_server.py FOLDER`, then set `HF_ENDPOINT` to what it prints and
# `SAMERGE_CLIP=vit-tiny`.)
#
# Other choices for `name`: `vit-b-32-lora` (KnOTS' adapters, 0.6 GB instead of 2.0), `vit-b-16`, `vit-l-14`.
#
# ## What has to travel
#
# A suite is a list of files: one base, and for each task an expert with its configuration. Sizes can be known before
# anything moves: PyTorch's "meta" device has shapes and no numbers, and open_clip knows its architectures. Here is ViT-B/32,
# tensor by tensor, the first of its twelve blocks only:

# %%
with torch.device("meta"):
    clip = names.build_clip(open_clip.get_model_config("ViT-B-32-quickgelu"))
tower = {k: v for k, v in clip.visual.state_dict().items()}
for key, value in tower.items():
    if "resblocks" not in key or "resblocks.0." in key:
        print(f"{key:<44}{' x '.join(map(str, value.shape)):>16}{value.numel():>11,}")
print(f"all of the image tower: {sum(v.numel() for v in tower.values()):,} numbers in {len(tower)} tensors")

# %% [markdown]
# A number in float32 has 4 bytes. **Before you run the next cell:** how large is an expert's file, in MB? And an adapter of rank
# 16 for the four square matrices (q, k, v, out) of each block, two factors of 768 x 16? The right column is what the hub
# states for the files.

# %%
from samerge_edu.suites.published.manifest import MODELS

stated = MODELS["ViT-B-32"]
whole, image_tower = (sum(v.numel() for v in m.state_dict().values()) for m in (clip, clip.visual))
numbers = {
    "base, image and text tower": (whole, stated.base_mb),
    "expert, without the projection": (image_tower - tower["proj"].numel(), stated.expert_mb),
    "adapter of rank 16": (12 * 4 * 2 * 768 * 16, stated.lora_mb),
}
for what, (count, mb) in numbers.items():
    print(f"{what:<32}{count:>12,} numbers {4 * count / 1e6:8.2f} MB   stated: {mb:g} MB")
off = max(abs(4 * count / 1e6 / mb - 1) for count, mb in numbers.values())
se.claim("12.sizes_are_shapes", by=-100 * off, at_least=-2, unit="%")

# %% [markdown]
# So an expert is its weights and nothing else, and eight of them with a base are 3.4 GB. What would your suite fetch, and
# under which licences?

# %%
from samerge_edu.suites.published.clip_vit import prefetch_suite

prefetch_suite(name, TASKS, images=True, dry_run=True)

# %% [markdown]
# "None stated" means what it says: the authors published without a licence, so use the files to learn, and ask before you
# pass them on. Now fetch. Every file of weights is checked against its sha256, a broken connection is taken up where it
# broke, and a second call finds everything here.

# %%
try:
    prefetch_suite(name, TASKS, images=True, say=lambda line: print(line) if "checked" in line else None)
except OSError as e:
    raise SystemExit(f"Stopped here: {e}") from None

# %% [markdown]
# On a machine without a network: `samerge-edu prefetch --suite vit-b-32 --images --to DIR` where there is one, carry `DIR`
# over, and set `SAMERGE_ASSETS=DIR` (`--val --ood default` adds what choosing scales and OOD tasks need). For a class of thirty behind one address, do that once and share the folder.
#
# The weights are **safetensors** files: a table of contents, and numbers. Older checkpoints, KnOTS' adapters too, are
# **pickles**: opening one runs whatever code is inside. This package takes tensors out of KnOTS' with PyTorch's
# `weights_only=True`, refuses a file that holds anything else, and opens no expert that is a pickle under another name.
#
# ## Will it fit?
#
# With N experts of d numbers each, in float32 (4 bytes a number):
#
# $$\text{everything in memory: } 4\,(N+2)\,d \qquad\qquad \text{one tensor at a time: } 4\,(N+2)\,d_{\max}$$
#
# N experts, the base, and the result. $d_{\max}$ is the size of the *largest tensor*, and it does not grow with depth. By hand,
# for a base and four experts with tensors of 10, 20 and 50 numbers: 4 x 6 x 80 = 1,920 bytes, and 4 x 6 x 50 = 1,200.
#
# A method that *ranks* all entries, such as TIES with its one trim over the model, cannot be cut into tensors: it holds the N
# task vectors (or reads them once more for each pass), and ranking them needs room besides. The forecast allows two
# copies of them for that.

# %%
from samerge_edu.forecast import forecast

toy = {"a": torch.zeros(10), "b": torch.zeros(4, 5), "c": torch.zeros(5, 10)}
print(forecast([toy] * 5, per_tensor=True).needs)

# %% [markdown]
# The forecast reads names and shapes only. Here are the real towers with eight experts:

# %%
for architecture in ("ViT-B-32-quickgelu", "ViT-L-14-quickgelu"):
    with torch.device("meta"):
        tower = names.build_clip(open_clip.get_model_config(architecture)).visual.state_dict()
    largest = max(v.numel() for v in tower.values())
    print(f"{architecture}: {sum(v.numel() for v in tower.values()):,} numbers, the largest tensor has {largest:,}")
    for kind, per_tensor in (("cut into tensors", True), ("ranks all entries", False)):
        for how, needed in forecast([tower] * 9, per_tensor=per_tensor).needs.items():
            print(f"    {kind:<20}{how:<22}{needed / 1e9:6.2f} GB")

# %% [markdown]
# And on this machine? `plan` is the first way that fits into 80 % of what is free. If none did, the merge would refuse with
# these numbers instead of being killed half-way.

# %% tags=["nbval-ignore-output"]
print("ViT-L/14 and eight experts, tensor by tensor if need be:", forecast([tower] * 9, True, device=device), sep="\n")

# %% [markdown]
# Now load the suite. Only the base is read; an expert is a file that is open, and a tensor is read when it is asked for.

# %%
suite = se.load_suite(name, tasks=TASKS, per_class=PER_CLASS, device=device)
print("checkpoint family:", suite.family)
print("validation:", suite.validation)

# %% [markdown]
# Whose training run it is, and what the validation split is to these experts: both belong beside every number. FusionBench's
# experts were trained on the whole training split, of which our validation is a tenth. Their accuracy there is that of images
# they know, so a scale chosen on it is optimistic. Nothing below chooses one: each merge has its paper's scale.
#
# Before anything is believed: are these the models and the images that they should be? Nobody could run the real files where
# this course was made, so your run is the first contact. Published accuracies of base and experts are known, task by task; the
# brackets are what 25 images a class may give. It finds a base that is not the experts' own, another activation, labels in
# another order, a broken adapter, a test set with images missing. If it finds one, the notebook stops here.
# (On the command line: `samerge-edu check --suite vit-b-32`.)

# %% tags=["nbval-ignore-output"]
from samerge_edu.selfcheck import check

for finding in check(suite):
    print(f"{finding.task:<12}{finding.problem or 'ok'}")
    print(
        f"    zero-shot {finding.zero_shot:.0f} ({finding.band[0]:.0f} to {finding.band[1]:.0f}), "
        f"expert {finding.expert:.0f} ({finding.least:.0f} or more), |tau| / |theta_0| {finding.distance:.2f}"
    )
    if finding.problem:
        raise SystemExit(f"Stopped here: {finding.task}: {finding.problem}")

# %%
# QUIZ 12.q1

# %% [markdown]
# ## Heads made of text
#
# CLIP has no classifier. It has a text tower, and a class is a caption. For class c with K templates:
#
# $$w_c = \mathrm{norm}\Big(\tfrac1K \sum_{j=1}^{K} \mathrm{norm}\big(\mathrm{text}(\text{template}_j \text{ with } c)\big)\Big)
# \qquad \text{logits} = \text{scale} \cdot \langle z, w_c\rangle$$
#
# where norm brings a vector to length 1 and the scale is one number that CLIP learned. By hand, two templates whose captions have the
# features (3, 4) and (0, 2): lengths 1 are (0.6, 0.8) and (0, 1), their mean is (0.3, 0.9), its length is 0.95.

# %%
z = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
z = z / z.norm(dim=1, keepdim=True)
print("length 1:", [[round(x, 1) for x in row] for row in z.tolist()])
print("mean:", [round(x, 1) for x in z.mean(dim=0).tolist()])
print("head:", [round(x, 3) for x in (z.mean(dim=0) / z.mean(dim=0).norm()).tolist()])

# %% [markdown]
# The templates below are those that the experts were trained with. They matter: the head is frozen during fine-tuning, so an
# expert fits *these* captions. With other templates, or other class names, it is another classifier.

# %%
for task in suite.id_tasks:
    about = suite.tasks[task]
    print(f"{task}: {len(about.classes)} classes, {len(about.templates)} template(s)")
    print(f"    {about.templates[0].format(about.classes[3])}")

# %%
# EXERCISE 12.1

# %% [markdown]
# Yours, on the suite's own text tower, against the heads that the package builds:


# %%
def embed(captions):
    """(n, dim): the text tower, features of any length."""
    with torch.no_grad():
        return suite.heads.clip.encode_text(suite.heads.tokenizer(captions).to(device))


for task in suite.id_tasks:
    mine = zero_shot_head(embed, suite.tasks[task].classes, suite.tasks[task].templates)
    print(f"{task}: {tuple(mine.shape)}, the same: {torch.allclose(mine, suite.heads[task], atol=1e-4)}")

# %% [markdown]
# ## Zero-shot and experts
#
# Test images are read, scaled and normalised as the base's own configuration says. With `PER_CLASS` images of each class an
# accuracy is an estimate: with n images, its standard error is $\sqrt{a\,(100-a)/n}$ points, a being the accuracy in percent.


# %%
def mean(per_task):
    return sum(per_task.values()) / len(per_task)


ours = {"zero-shot": scores(suite, suite.theta_0, tasks=suite.id_tasks)}
ours["experts"] = {t: scores(suite, suite.experts[t], tasks=[t])[t] for t in suite.id_tasks}
images = {t: len(suite.labels(t)) for t in suite.id_tasks}
for row in ("zero-shot", "experts"):
    se.show(f"12.{row}", mean(ours[row]), f"{row}, mean of {len(images)} tasks", slack=6.0)

# %%
se.figure(*d12.alone({row: ours[row] for row in ("zero-shot", "experts")}, images, suite.family))

# %% [markdown]
# ## A merge that never holds the models
#
# For each tensor k: read it of the base and of all experts, subtract, merge, add, write, forget.
#
# $$\tau_n[k] = \theta_n[k] - \theta_0[k] \qquad \theta[k] = \theta_0[k] + \lambda\,\mathrm{merge}(\tau_1[k], \dots, \tau_N[k])$$
#
# That needs a file that can be written tensor by tensor. Here is one, small enough to look at its bytes. `merge_to_file`
# calls `progress` after each tensor:

# %%
from samerge_edu.merges.average import average
from samerge_edu.streaming import merge_to_file

folder = pathlib.Path(tempfile.mkdtemp())
base = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[0.0, 4.0, 8.0]])}
experts = [{k: v + step for k, v in base.items()} for step in (1.0, 3.0)]
toy_file = merge_to_file(
    base, experts, average, folder / "toy.safetensors", lam=0.5, per_tensor=True, recipe="a toy", progress=print
)
raw = toy_file.read_bytes()
length = int.from_bytes(raw[:8], "little")  # the first 8 bytes: how long the table of contents is
contents = json.loads(raw[8 : 8 + length])
about = contents.pop("__metadata__")
for key, entry in contents.items():
    begin, end = (8 + length + offset for offset in entry["data_offsets"])
    print(key, entry, "->", torch.frombuffer(bytearray(raw[begin:end]), dtype=torch.float32).tolist())
print("recipe:", about["recipe"], "  lam:", about["lam"], "  inputs:", len(json.loads(about["inputs"])))

# %% [markdown]
# The mean update is 2 everywhere, half of it is added. The table of contents comes first, with shapes and places, so it can
# be written before the first tensor is known. The file gets its name only when it is whole: an interrupted merge leaves the
# old file, or none. And it says what it is: recipe, scale, versions, and the sha256 of every input.
#
# Not every method can be cut into tensors. Which ones can is written in the leaderboard's table, and a test compares both ways:

# %%
for method in ("Average", "Task Arithmetic", "TSV-M", "WUDI", "TIES", "LwPTV + TA", "SA-Merging"):
    print(f"{method:<18}{'tensor by tensor' if se.METHODS[method].per_tensor else 'all tensors at once'}")

# %% [markdown]
# TIES ranks all entries of the model at once, LwPTV ranks layers, and SA-Merging needs the flow through the whole network:
# they read lazily, and hold their task vectors. Four merges of the suite, with the paper's scale each. On the command line:
# `samerge-edu merge --suite vit-b-32 --method "SA-Merging" --out merged.safetensors`.

# %% tags=["nbval-ignore-output"]
from samerge_edu.leaderboard import measured
from samerge_edu.streaming import merge_suite


def merge(method):
    """The suite merged by one row of the leaderboard, as a file in a folder of its own."""
    row, place = se.METHODS[method], folder / method.lower().replace(" ", "_")
    place.mkdir(exist_ok=True)
    options = dict(lam=row.lam, per_tensor=row.per_tensor, recipe=method)
    return merge_suite(suite, row.recipe(suite), place / "open_clip_model.safetensors", **options)


files = {}
print(f"{'':<18}{'seconds':>8}{'MiB at the peak':>18}{'forecast':>10}")
for method in ("Average", "Task Arithmetic", "TSV-M", "SA-Merging"):
    files[method], seconds, peak = measured(lambda method=method: merge(method), suite.device)
    plan = forecast([suite.theta_0, *suite.experts.values()], se.METHODS[method].per_tensor, device)
    least = min(plan.needs.values()) / 2**20
    print(f"{method:<18}{seconds:8.1f}{'unknown' if peak is None else f'{peak:.0f}':>18}{least:10.1f}")

# %% [markdown]
# (On a miniature the peak is what PyTorch itself takes; at the size of ViT-B/32 the forecast is what counts.)
#
# Each folder holds a whole CLIP: merged image tower, the base's projection and text tower, and an `open_clip_config.json`. So
# open_clip loads it by its folder, with the right preprocessing and the right activation:

# %%
from samerge_edu.suites.published.clip_vit import without_proj

model_again, _, _ = open_clip.create_model_and_transforms(f"local-dir:{files['Average'].parent}", device=device)
theta = without_proj(names.image_tower(se.LazyParams(files["Average"], device)))
x = suite.images(suite.id_tasks[0], n=20)[0]
with torch.no_grad():
    cosine = (model_again.eval().encode_image(x, normalize=True) * suite.encode(theta, x)).sum(dim=1)
print(f"features of open_clip's model and of ours: smallest cosine {cosine.min().item():.2f}")

# %%
for method, file in files.items():
    theta = without_proj(names.image_tower(se.LazyParams(file, device)))
    ours[method] = scores(suite, theta, tasks=suite.id_tasks)
    se.show(f"12.{method}", mean(ours[method]), f"{method}, mean of {len(images)} tasks", slack=6.0)

# %% [markdown]
# ## Beside the published numbers
#
# Three sets of ViT-B/32 experts are in use, each with its own training run, and papers seldom say in the table which one:
#
# | family | what it is | zero-shot | experts |
# |---|---|---|---|
# | TA | the Task Arithmetic authors' checkpoints, pickles on a drive | 48.0 | 90.8 |
# | FB | FusionBench's training, on the hub; what you have here | 48.2 | 90.3 |
# | TALL | TALL-masks' checkpoints; DTD's test images were in its training set | 48.3 | 92.8 |
#
# The averages are over the eight tasks, from the papers. The same algorithm on the same architecture differs by a point or so.
# Here is what they print for ViT-B/32, all eight experts merged:

# %%
from samerge_edu.suites.published.manifest import TA8
from samerge_edu.suites.published.numbers import PUBLISHED

print(f"{'':<17}{'family':<13}" + "".join(f"{task[:7]:>8}" for task in TA8) + f"{'mean':>7}")
for row in PUBLISHED:
    cells = "".join(f"{x:8.1f}" for x in row.tasks) or f"{'only the mean is printed':>64}"
    print(f"{row.method:<17}{row.family:<13}{cells}{row.average:7.1f}")

# %% [markdown]
# Read it by family. Within FB every row merges the same eight files: 66.5 for the plain average, 84.5 for WUDI. From one family
# to the other the same method moves by about a point (Task Arithmetic: 68.0, 69.1), more than RegMean, Iso-C and Iso-CTS differ
# within one. And the last row is of a family that was *inferred*, without single tasks: you can compare it with nothing that
# you measure.

# %%
# EXERCISE 12.2

# %% [markdown]
# First the families against each other: FusionBench's own rows as "ours", the Task Arithmetic authors' as the table. Then your
# measurement.

# %%
table = [
    {"method": r.method, "family": r.family, "average": r.average, "tasks": dict(zip(TA8, r.tasks, strict=False))}
    for r in PUBLISHED
]
fb = {r["method"]: r["tasks"] for r in table if r["family"] == "FB" and r["tasks"]}
for method, difference in against_published(fb, "TA", table).items():
    print(f"{method}: FB minus TA, eight tasks, published: {difference:+.1f} points")

family = suite.family.split(":")[0].split(",")[0]  # "FB" for the real full experts
differences = against_published(ours, family, table)
print(
    f"Rows to compare ours with (family {family}):", ", ".join(differences) or "none, so there is nothing to subtract"
)

# %% tags=["nbval-ignore-output"]
tasks = suite.id_tasks
print(f"{'':<18}{'family':<8}" + "".join(f"{t:>10}" for t in tasks) + f"{'mean':>10}")
for method, row in ours.items():
    print(f"{method:<18}{family:<8}" + "".join(f"{row[t]:10.1f}" for t in tasks) + f"{mean(row):10.1f}")
for r in table:
    if r["method"] in ours and r["tasks"]:
        cells = [r["tasks"][t] for t in tasks]
        line = "".join(f"{c:10.1f}" for c in cells) + f"{sum(cells) / len(cells):10.1f}"
        print(f"{r['method']:<18}{r['family']:<8}{line}   published")
for method, difference in differences.items():
    verdict = "six points are within reach of what follows" if abs(difference) <= 6 else "more than six points: look"
    print(f"{method}: ours minus published, family {family}: {difference:+.1f} points ({verdict})")

# %%
comparable = {method: mean(row) for method, row in ours.items()} if differences else {}  # a miniature is not
se.figure(*d12.by_family(table, suite.id_tasks, comparable, family))

# %% [markdown]
# ### What differs, and why
#
# A difference of a few points is expected, and each reason can be checked:
#
# * **Fewer experts.** The published rows merge eight and are read off on your four tasks. You merged four. Each expert is in
#   the way of the others; the next cell measures how much. `TASKS = 8` in the first cell takes all eight.
# * **Fewer images, and balanced.** Yours are the first `PER_CLASS` of each class. SVHN and GTSRB have common and rare classes;
#   the papers count images, you count classes alike. `PER_CLASS = None` and `data_scripts/evaluate_suite.py` use whole sets.
# * **The scale.** Published numbers use a fixed lam, or one tuned on validation. With four experts the best lam is larger.
# * **The data.** EuroSAT's test split is 2,700 images of FusionBench's own; there are others.
# * **A broken expert.** KnOTS' ViT-B/32 adapter for SUN397 gives 19.6 % where the base alone has 62.0 on the same images
#   (KnOTS on GitHub, issue 13), and one expert far below zero-shot spoils every merge that it is in. The data are not to blame.
# * **The projection.** A Hugging Face expert has none, so the base's is used. open_clip's experts (TA, TALL) have fine-tuned it
#   and merge it.
# * **Arithmetic.** Half precision, another GPU: tenths of a point.

# %%
few, on_two = suite.id_tasks[:2], {}
for count in (2, len(suite.experts)):
    taus = se.lazy_task_vectors(suite.theta_0, list(suite.experts.values())[:count])
    on_two[count] = mean(scores(suite, se.add(suite.theta_0, average(taus)), tasks=few))
    se.show(f"12.average_of_{count}", on_two[count], f"average of {count} experts, on {' and '.join(few)}", slack=6.0)
se.claim("12.fewer_experts", by=on_two[2] - on_two[len(suite.experts)], at_least=3)

# %%
# QUIZ 12.q2

# %% [markdown]
# ## Two checkpoints of your own
#
# Nothing of this needs a suite. A base and experts that were fine-tuned from it are enough: modules, state dicts,
# safetensors files, Hugging Face folders, PEFT adapters, in any mixture. Put your paths into `yours`. While it is empty, two
# experts of the suite stand in, as files. **Predict:** which two of the four merges below raise an error, which one only
# warns?

# %%
yours = {"base": None, "experts": []}  # such as {"base": "base.safetensors", "experts": ["a.safetensors", "folder_of_b"]}
if not yours["experts"]:
    yours = {"base": folder / "base.safetensors", "experts": [folder / f"{t}.safetensors" for t in suite.id_tasks[:2]]}
    se.save_params(yours["base"], suite.theta_0)
    for file, theta in zip(yours["experts"], suite.experts.values(), strict=False):
        se.save_params(file, theta)

theta = se.merge(yours["base"], yours["experts"], "TIES", density=0.2)
print({key: theta.record[key] for key in ("method", "lam", "lam_from", "knobs", "experts")})

# %%
import warnings

base = dict(se.LazyParams(yours["base"])) if pathlib.Path(yours["base"]).is_file() else dict(suite.theta_0)
stranger = {k: torch.randn(v.shape, generator=torch.Generator().manual_seed(0)).to(v) for k, v in base.items()}
key = next(k for k, v in base.items() if v.dim() == 2)
wrong = {
    "fine-tuned": {k: 1.01 * v for k, v in base.items()},
    "another base's": stranger,
    "another width": base | {key: base[key][:, :-1]},
    "diverged": base | {key: base[key] * float("nan")},
}
for what, expert in wrong.items():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            se.merge(base, [expert], "TIES")
            print(f"{what}: {said[0].message if said else 'merged'}")
        except ValueError as e:
            print(f"{what}: ValueError: {e}")

# %% [markdown]
# A stranger has the right names and shapes, and its merge is noise: only the distance tells. The same on the command line,
# written as a folder that `from_pretrained` loads: `samerge-edu merge --base A --expert B --expert C --method TIES --out DIR`,
# with `--dry-run` first. SA-Merging needs the network too (`model=` and `example=`); `docs/merge_your_own.md` has a
# timm ViT, PEFT adapters and a RoBERTa.

# %% [markdown]
# ## A trap that raises no error: half precision
#
# A model in 16 bits runs as well as in 32, so why not merge in 16 bits, in half the memory? bfloat16 keeps 8 significant bits: next
# to a weight of 0.02 the numbers it knows are 0.0001 apart. A *task vector* is the small difference of two such weights.
# **Predict:** an update is 1 % of its weights in size. How much of it is wrong after both models were stored in bfloat16?

# %%
generator = torch.Generator().manual_seed(0)
theta_0 = 0.02 * torch.randn(768, 768, generator=generator)  # a matrix of ViT-B/32's shape and typical size
direction = 0.02 * torch.randn(768, 768, generator=generator)
lost = {"bfloat16": {}, "float16": {}}
for size in (0.1, 0.03, 0.01, 0.003, 0.001):
    tau = size * direction
    for name, errors in lost.items():
        dtype = getattr(torch, name)
        stored = (theta_0 + tau).to(dtype).float() - theta_0.to(dtype).float()
        errors[size] = 100 * ((stored - tau).norm() / tau.norm()).item()
se.figure(*d12.halved(lost))
se.claim("12.half_precision_eats_updates", by=lost["bfloat16"][0.01], at_least=15, unit="% wrong")
se.claim("12.float16_less", by=lost["bfloat16"][0.01] - lost["float16"][0.01], at_least=10, unit="% wrong")

# %% [markdown]
# No error, no warning, and each of the two models computes as before. And the experts of this suite? Here is how large their
# updates are, and what bfloat16 would do to them:

# %%
for task, expert in suite.experts.items():
    key = "transformer.resblocks.0.mlp.c_fc.weight"
    before, after = suite.theta_0[key].float(), expert[key].float()
    tau, stored = after - before, after.bfloat16().float() - before.bfloat16().float()
    relative, wrong = tau.norm() / before.norm(), (stored - tau).norm() / tau.norm()
    se.show(f"12.tau.{task}", 100 * relative, f"{task}: |tau| as a share of |theta_0|", slack=3.0)
    se.show(f"12.half.{task}", 100 * wrong, f"{task}: of it wrong in bfloat16", slack=3.0)

# %% [markdown]
# A miniature is trained in a minute with large steps, so its updates are large and safe; fine-tuning moves a real model less, and
# your run shows by how much. This package subtracts and adds in float32, whatever the files hold; the forecast's way "half
# precision" is for files that are stored so already. Keep an expert in the precision that it was trained in.
#
# Another trap of this kind you know from notebook 01: OpenAI's CLIP computes QuickGELU, most code the exact GELU, and the
# tensors cannot tell. Every loader of this package checks the activation against the configuration that came with the weights.
#
# ## Two names for one tensor
#
# Experts on the hub come in Hugging Face's format, the base in open_clip's. It is one architecture under two sets of names:

# %%
hf = names.to_hf(suite.theta_0, prefix="")
for ours_key, theirs in list(names.hf_names(1).items())[7:11]:
    print(f"{ours_key:<48}{', '.join(theirs)}")

# %%
# EXERCISE 12.3

# %% [markdown]
# Yours, on every block of the real (or the miniature) base, which has been taken apart above:

# %%
blocks = len(suite.visual.transformer.resblocks)
same = [
    torch.equal(value, suite.theta_0[f"transformer.resblocks.{i}.attn.{key}"])
    for i in range(blocks)
    for key, value in fused(hf, i).items()
]
print(f"{sum(same)} of {2 * blocks} joined tensors are the base's own")

# %%
# OPEN 12.open

# %% [markdown]
# ## What to remember
#
# * Sizes, licences and memory can be known before the first byte moves: look first.
# * A classifier is class names plus templates plus the text tower, frozen; another template is another classifier.
# * A method that treats each tensor on its own merges models of any depth in (N + 2) tensors of memory. A global one does not.
# * A number without its checkpoint family, its tasks, its number of experts and its images is not comparable with anything.
# * A task vector is a small difference: what 16 bits lose of a weight nobody sees, what they lose of an update may be most of it.
# * The same shapes do not mean the same function: keep the configuration beside the weights.
#
# ## Further reading
#
# * Radford et al. (2021), CLIP and zero-shot heads, arXiv:2103.00020, 3.1.4.
# * Ilharco et al. (2023), the eight tasks and their checkpoints, arXiv:2212.04089.
# * Tang et al. (2024), FusionBench: experts, data and tables, arXiv:2406.03280.
# * Stoica et al. (2025), KnOTS and its LoRA experts, arXiv:2410.19735.
# * Wang et al. (2024), TALL-masks and the twenty tasks, arXiv:2405.07813.
#
# ## Claims
#
# | claim | status |
# |---|---|
# | A merge tensor by tensor gives the numbers of a merge in memory | tested for every method marked so, `tests/test_streaming.py` |
# | The peak is about (N + 2) times the largest tensor, whatever the depth | measured at ViT-B/32's size, `tests/benchmarks/bench_streaming.py` |
# | An expert's file is its shapes times 4 bytes | measured here: `12.sizes_are_shapes` |
# | Fewer experts, higher accuracy on each task | on the suite that ran; measured here: `12.fewer_experts` |
# | Storing models in bfloat16 spoils small updates, float16 less | on random matrices of a real shape; measured here: `12.half_precision_eats_updates`, `12.float16_less` |
# | The accuracies of the eight-task table | from the papers, by family; see `samerge_edu/suites/published/numbers.py` |
# | SA-Merging reaches 85.9 on ViT-B/32 | from the paper, arXiv:2606.00511; the family is inferred, and nobody here has measured it |
# | The same gain on FusionBench's experts | open: run this notebook with all eight tasks and whole test sets |
