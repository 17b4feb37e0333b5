# %% [markdown]
# # 11 Beyond one merged model: parts, routers, masks, other beginnings
#
# **You will be able to**
#
# * name what a merge may not do, and pick the system that may: a task id, a router, a mask, a permutation;
# * predict what a router's errors cost, and say what it does with images that belong to no expert;
# * count the bytes beside one model, and what accuracy they buy;
# * match two networks from two beginnings, unit by unit and head by head, and say when that is of use.
#
# **Needs** notebooks 01 and 02; 09 helps. **Minutes** {reading} to read, {exercises} for the exercises; runs in less than a
# minute on two cores (pocket suite). On Colab: File, Save a copy in Drive, before you start.

# %%
from statistics import mean

from samerge_edu import plots
from samerge_edu.alignment.axes import permute, shuffled, vit_axes
from samerge_edu.alignment.weight_matching import weight_matching
from samerge_edu.course.drawings import d11
from samerge_edu.ensembles.router import train_router
from samerge_edu.ensembles.tall_masks import tall_experts
from samerge_edu.ensembles.twin_merging import low_rank
from samerge_edu.evaluate import accuracy, scores
from samerge_edu.params import flatten, unflatten
from samerge_edu.statistics import features
from samerge_edu.studies import alignment, more_experts, osrm, scale, sparse, storage

suite = se.load_suite("pocket")  # the recorded points below are of this suite
theta_0, tasks, abroad = suite.theta_0, suite.id_tasks, suite.ood_tasks
taus = se.task_vectors(theta_0, [dict(suite.experts[task]) for task in tasks])
kept = storage.recorded()
print(f"{len(kept['rows'])} measured points, each on {kept['test_images']} test images of every task")


# %% [markdown]
# What takes minutes was measured before; the command stands beside its numbers. The rest is measured here.
#
# ## The map
#
# All merges up to here had N experts of *one* base and left *one* state dict. Give up one of the two, and other systems
# come into reach:
#
# | the models | what is left | who knows the task | systems |
# |---|---|---|---|
# | one base | one state dict | nobody | notebooks 01 to 10; Localize-and-Stitch |
# | one base | one state dict and a part for each task | the user tells | TALL masks, EMR-Merging, Surgery (10) |
# | one base | the same, and a router | the router guesses | Twin-Merging, FREE-Merging |
# | two bases | one state dict | nobody | Git Re-Basin, ZipIt!: match units, then average |
# | an old base and its new release | the new release, and the old task vector | nobody | re-basin of task vectors |
# | not trained yet | any of these | - | OSRM, sparse fine-tuning: train for merging |
#
# **Which column a row stands in is a part of its number.** A row that is told the task is not compared with one that
# is not.
#
# ## Stitch: who owns an entry?
#
# Still one state dict. Localize-and-Stitch keeps a small region of each expert and puts the regions side by side,
#
# $$\tau_m = \frac{\sum_n m_n \odot \tau_n}{\sum_n m_n} \text{ where some } m_n = 1, \text{ else } 0 \qquad \theta = \theta_0 + \tau_m$$
#
# with no scale $\lambda$: where regions do not meet, each expert's entries come out at full strength.

# %%
# EXERCISE 11.1

# %%
flat = torch.stack([flatten(tau) for tau in taus])  # (N, d)
stitches = {}
for percent in (1, 10, 100):
    tau_m = unflatten(stitched(flat, flat.shape[1] * percent // 100), like=theta_0)
    stitches[percent] = mean(scores(suite, se.add(theta_0, tau_m), tasks=tasks, n=50).values())
    se.show(f"11.stitch_{percent}", stitches[percent], f"largest {percent:3} %, stitched: ID average", slack=2)
se.claim("11.a_tenth_is_as_good_as_all", by=stitches[10] - stitches[100], at_least=-1)


def point(method, asks=""):
    """A measured point of `samerge-edu study storage`; asks: "" (one model), "task id" or "router"."""
    [row] = [row for row in kept["rows"] if (row["method"], row["asks"]) == (method, asks)]
    return row


for name in ("Average", "Localize-and-Stitch", "TSV-M"):
    se.show(f"11.{name.lower().replace('-', '_')}", point(name)["id_avg"], f"{name}: ID average", slack=1.5)
learned = stitches[10] - point("Localize-and-Stitch")["id_avg"]
se.claim("11.learned_regions_are_behind_large_ones", by=learned, at_least=3)
se.claim("11.stitches_are_behind_tsv", by=point("TSV-M")["id_avg"] - stitches[10], at_least=2)

# %% [markdown]
# At 100 % nothing is left out and the stitch is the plain average; a tenth of each is as good. The paper *learns* the
# regions from 64 labelled images of each task; with the authors' settings, made for larger models, that is behind the
# simple choice here. Neither reaches TSV-M, which mixes directions and not entries.
#
# ## A router
#
# Now keep the experts, and let each image choose. The shared model reads the image, a small network $R$ reads the
# feature, and the answer is a mixture of parts $v_n$:
#
# $$w(x) = \mathrm{softmax}\, R\big(\mathrm{encode}(\theta, x)\big) \qquad \theta(x) = \theta + \sum_n w_n(x)\, v_n$$
#
# $R$ learns from images whose *task* is known; their classes are not needed. Take the extreme case first: the parts are
# whole experts, and the largest weight takes all. One table says all that we need: is image $i$ right in model $m$? (For
# any parts and for mixtures, each image in a model of its own: `ensembles.ensemble.measure`.)

# %%
router = train_router(suite, theta_0)  # 64 validation images of each task
models = {task: dict(suite.experts[task]) for task in tasks} | {"base": theta_0}
right = {task: [] for task in [*tasks, *abroad]}  # task -> (models, images), the base last
w = {}  # task -> (images, experts)
for name, theta in models.items():
    for task, z, y in suite.features(theta, list(right), "test", 100):
        right[task].append((z @ suite.heads[task].T).argmax(dim=1) == y)
        if name == "base":
            w[task] = router(z)
right = {task: torch.stack(rows).double() for task, rows in right.items()}
route = {task: w[task].argmax(dim=1) for task in right}
counts = torch.stack([torch.bincount(route[task], minlength=len(tasks)) for task in right]).double()
se.figure(*d11.confusion(counts / 100, list(right), tasks))

# %% [markdown]
# The upper half is the router's confusion. What will it cost? Not every image that is sent astray is lost.

# %%
# EXERCISE 11.2

# %%
accuracies = 100 * torch.stack([right[task][:-1].mean(dim=1) for task in tasks])  # (tasks, experts)
told = accuracies.diagonal().mean().item()
predicted = routed_accuracy(counts[: len(tasks)], accuracies).mean().item()


def routed(which):
    """Accuracy in percent of some tasks behind the router."""
    return 100 * mean(right[task][route[task], torch.arange(100)].mean().item() for task in which)


se.show("11.told", told, "at home, the task is told: ID average", slack=1.5)
se.show("11.predicted", predicted, "at home, routed: predicted", slack=1.5)
se.show("11.routed", routed(tasks), "at home, routed: measured", slack=1.5)
se.claim("11.the_prediction_is_near", by=2 - abs(predicted - routed(tasks)))
se.claim("11.a_router_costs_little_at_home", by=5 - (told - routed(tasks)))
base_abroad = 100 * mean(right[task][-1].mean().item() for task in abroad)
se.show("11.base_abroad", base_abroad, "abroad, the base: OOD average", slack=1.5)
se.show("11.routed_abroad", routed(abroad), "abroad, routed: OOD average", slack=2)
se.claim("11.abroad_a_router_harms", by=base_abroad - routed(abroad), at_least=5)

# %% [markdown]
# At home the router loses little. Abroad it does harm: the lower half of the figure shows tasks of which no image belongs
# to any expert, and each image gets one all the same. A sum of weights that must be 1 cannot say "none".
#
# ### Let it say "none"
#
# Is it at least in doubt? Send an image to the base when the largest weight is below a threshold. The threshold must not
# be chosen on tasks that are to be unknown. So take validation images *at home*, and accept to lose the least sure
# twentieth of them:

# %%
val = torch.cat([router(features(suite, theta_0, task, 200, "val")[64:]) for task in tasks])
threshold = val.amax(dim=1).quantile(0.05).item()


def sure_and_right(which):
    """Of all images of some tasks: the largest weight (n,), right by the expert chosen and by the base (n, 2)."""
    sure = torch.cat([w[task].amax(dim=1) for task in which])
    by = [torch.stack([right[task][route[task], torch.arange(100)], right[task][-1]], dim=1) for task in which]
    return sure, torch.cat(by)


sure_home, right_home = sure_and_right(tasks)
sure_abroad, right_abroad = sure_and_right(abroad)
se.show("11.threshold", threshold, "threshold", unit="", digits=2, slack=0.08)
with_base = [d11.behind(sure_home, threshold, right_home), d11.behind(sure_abroad, threshold, right_abroad)]
se.show("11.none_home", with_base[0], "with 'none', at home: ID average", slack=2)
se.show("11.none_abroad", with_base[1], "with 'none', abroad: OOD average", slack=2)
se.claim("11.none_helps_abroad", by=with_base[1] - routed(abroad), at_least=3)
se.claim("11.none_costs_little_at_home", by=3 - (routed(tasks) - with_base[0]))


# %%
def draw(threshold):
    return d11.doubt(sure_home, sure_abroad, threshold, right_home, right_abroad)


se.explore(draw, presets=[{"threshold": 0.0}, {"threshold": 0.7}], threshold=(0.0, 1.0, 0.05))

# %%
# QUIZ 11.q1

# %% [markdown]
# ## What does a megabyte buy?
#
# Whole experts are dear: each is as large as the model. What may be kept in their place?
#
# * **a bit an entry** (TALL masks): $\theta_0 + m_n \odot \sum_j \tau_j$, with $m_n = 1$ where
#   $|\tau_n| > \lambda_n\, |\sum_j \tau_j - \tau_n|$. The mask takes of the *sum* those entries that are mostly task n's.
# * **few directions** (Twin-Merging): the rank-r part of what the expert has and the shared model $\theta$ has not,
#   $v_n = (\theta_n - \theta)_r$.
# * **few entries** (FREE-Merging): the largest 1 % of $\tau_n$, made louder.
#
# Bytes are counted as they would lie in a file:

# %%
def mb(tensors):
    return f"{sum(x.nbytes for x in tensors.values()) / 1e6:.2f} MB"


masks = tall_experts(suite, mask_lams=(0.4,))  # with one mask_lam no image is looked at
print("one model", mb(theta_0), "- one mask", mb(masks.parts[tasks[0]].stored))
print("16 directions of each matrix of one expert", mb(low_rank(taus[0], 16).stored))
print(f"eight masks {masks.megabytes:.2f} MB, of which the sum that they select from is", mb(masks.second))

# %%
# QUIZ 11.q2

# %% [markdown]
# A bit an entry sounds like next to nothing; the sum that all masks select from is easily forgotten. Now all of it in one
# picture (`samerge-edu study storage`): each part once with the task told and once behind a router.

# %%
se.figure(*plots.megabytes(kept["rows"], kept["model_mb"]))
single = max(row["id_avg"] for row in kept["rows"] if not row["stored_mb"])
for name in ("Twin, rank 1", "Twin, rank 8", "base, rank 1", "base, rank 8", "FREE, 1%", "TALL masks", "experts"):
    slug = name.lower().replace(", ", "_").replace(" ", "_").replace("%", "")
    for asks in ("task id", "router"):
        row = point(name, asks)
        label = f"{name:12} {row['stored_mb']:5.1f} MB, {asks:7}"
        se.show(f"11.kept_{slug}_{asks[0]}", row["id_avg"], f"{label}: ID average", slack=1.5)


# %%
def routed_id(name):
    return point(name, "router")["id_avg"]


se.claim("11.rank_8_beats_every_single_model", by=routed_id("Twin, rank 8") - single, at_least=6)
shared = routed_id("Twin, rank 1") - routed_id("base, rank 1")
se.claim("11.a_merge_below_helps_small_parts", by=shared, at_least=4)
se.claim("11.and_hardly_larger_ones", by=3 - abs(routed_id("Twin, rank 8") - routed_id("base, rank 8")))
lora = routed_id("LoRA, rank 4") - routed_id("base, rank 4")
se.claim("11.trained_small_is_as_good_as_made_small", by=lora, at_least=-1)
masked = point("base, rank 16", "task id")["id_avg"] - point("TALL masks", "task id")["id_avg"]
se.claim("11.masks_do_not_lead_at_eight_experts", by=masked, at_least=1)
costs = [point(f"Twin, rank {r}", "task id")["id_avg"] - routed_id(f"Twin, rank {r}") for r in (8, 16)]
se.claim("11.the_router_is_the_limit", by=min(costs), at_least=2)

# %% [markdown]
# Two controls make this readable. **The single model** stands at 0 MB: what lies below it is not worth its bytes.
# **Low rank on the base** is Twin-Merging without a merge: the same parts and the same router on $\theta_0$. With a
# megabyte the merge below is a real help; with four it hardly is, for by then the parts carry the tasks
# themselves. (LoRA experts, *trained* at rank 4, are as good as experts cut to rank 4, and weigh less.) Told beside routed:
# with larger parts the router's errors are what is left.
#
# And masks? Eight of them with their sum weigh more than 16 directions of each expert, and do less. But a ninth mask is a
# fifth of a megabyte, and 16 directions of a ninth expert more than four times that: masks are for many experts.

# %%
se.explore(
    lambda megabytes, told: d11.at_budget(kept["rows"], megabytes, told),
    presets=[{"megabytes": 2, "told": False}, {"megabytes": 10, "told": True}],
    megabytes=[0, 1, 2, 5, 10, 20, 60],
    told=False,
)

# %% [markdown]
# ## Two beginnings
#
# So far all models grew from one base, and unit 17 of one was unit 17 of the other. Two trainings from two beginnings
# may find the same units in another order, and the mean of unit 17 and unit 17 is then nothing at all. The order can be
# undone: it does not change the function.

# %%
# EXERCISE 11.3

# %% [markdown]
# Try it on real data: two networks with 64 hidden units, trained on the scanned digits of notebook 00.

# %%
from torch.nn import functional as F

x, y = suite.images("real_digits", "test", 1797)
order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
x = F.interpolate(x.mean(dim=1, keepdim=True), size=8, mode="area").flatten(1)[order]
x, y = (x - x.mean()) / x.std(), y[order]  # (1797, 64): 1200 to train with, the rest to test


def answer(theta, x):
    return (x @ theta["W"].T + theta["b"]).relu() @ theta["V"].T


# %%
def trained(seed, width=64):
    generator = torch.Generator().manual_seed(seed)
    W, V = torch.randn(width, 64, generator=generator), torch.randn(10, width, generator=generator)
    theta = {"W": W / 8, "b": torch.zeros(width), "V": V / width**0.5}
    adam = torch.optim.Adam([p.requires_grad_() for p in theta.values()], lr=3e-3)
    for _ in range(300):
        pick = torch.randint(1200, (128,), generator=generator)
        adam.zero_grad()
        F.cross_entropy(answer(theta, x[pick]), y[pick]).backward()
        adam.step()
    return {key: p.detach() for key, p in theta.items()}


def line(a, b):
    """Test accuracy at 11 points from a to b."""
    steps = [alignment.between(a, b, i / 10) for i in range(11)]
    return [100 * (answer(theta, x[1200:]).argmax(dim=1) == y[1200:]).double().mean().item() for theta in steps]


# %%
falls = {"as they are": [], "matched": []}
for seed in (0, 2, 4):
    a, b = trained(seed), trained(seed + 1)
    P = match_units(a["W"], a["V"], b["W"], b["V"])
    matched = {"W": b["W"][P], "b": b["b"][P], "V": b["V"][:, P]}
    lines = {"as they are": line(a, b), "matched": line(a, matched)}
    for name, values in lines.items():
        falls[name].append(alignment.barrier(values))
se.figure(*d11.along(lines, "from network A (0) to network B (1)"))
before, after = mean(falls["as they are"]), mean(falls["matched"])
se.show("11.barrier_before", before, "barrier between two small networks, mean of 3 pairs", unit="points", slack=6)
se.show("11.barrier_after", after, "... and matched", unit="points", slack=2)
se.claim("11.matching_opens_the_way", by=before - after, at_least=10)

# %% [markdown]
# The **barrier** is how far the line falls below the straight line between its ends. (An order found by the weights
# alone: no image was looked at.)
#
# ### In a transformer: whole heads
#
# A ViT has more orders: of the residual stream (one for the whole network), of the hidden units of each MLP, of the
# heads, and of the units inside each head. Units may not change from one head to another, and q, k, v and the output
# must agree about the heads.

# %%
# EXERCISE 11.4

# %%
theta = dict(suite.experts["digits"])
moved, generator = dict(theta), torch.Generator().manual_seed(0)
for key in [key for key in theta if key.endswith("attn.in_proj_weight")]:
    names = [key, key.replace("weight", "bias"), key.replace("in_proj_", "out_proj.")]
    order = torch.randperm(suite.attention_heads, generator=generator).tolist()
    moved |= zip(names, heads_moved(*(theta[name] for name in names), order), strict=True)
images = suite.images("digits", "test", 100)[0].double()  # in float64 only the order of sums is left
in_64 = [{key: value.double() for key, value in model.items()} for model in (theta, moved)]
with torch.no_grad():
    z, z_moved = (torch.func.functional_call(suite.visual, model, (images,)) for model in in_64)
print("the digits expert, heads moved: features the same to 1e-9:", ((z - z_moved).abs().max() < 1e-9).item())
half = accuracy(suite, alignment.between(theta, moved, 0.5), "digits", n=100)
alone = accuracy(suite, theta, "digits", n=100)
se.show("11.digits_alone", alone, "either network on digits", slack=2)
se.show("11.half_way_heads", half, "the mean of both", slack=8)
se.claim("11.one_function_and_a_bad_mean", by=alone - half, at_least=15)

# %% [markdown]
# The same function twice, and the mean of both is far worse. Now shuffle everything that may be shuffled, and let Git
# Re-Basin look for it: layer by layer a linear assignment as in exercise 3, with the others as they are, until nothing moves.

# %%
axes = vit_axes(theta, suite.attention_heads)
copy = permute(theta, shuffled(theta, axes, torch.Generator().manual_seed(1)), axes)
found = weight_matching(theta, copy, axes, generator=torch.Generator().manual_seed(2))
back = permute(copy, found, axes)
se.show("11.half_way_copy", accuracy(suite, alignment.between(theta, copy, 0.5), "digits", n=100), "half way", slack=10)
units = float(all(torch.equal(back[key], theta[key]) for key in theta))
se.claim("11.every_unit_is_found_again", by=units, at_least=1, unit="")

# %% [markdown]
# So the search works. That answers the first half of the question. The second: are two *trainings* the same network in
# another order? Here is "the stranger", a CLIP of the pocket world from another beginning, with a digits expert of its
# own; and MLPs of four widths (`python data_scripts/measure_alignment.py`).

# %%
ways = alignment.recorded()
se.figure(*plots.two_beginnings(ways["widths"], ways["lines"]))
wide = [row for row in ways["widths"] if row["width"] == max(row["width"] for row in ways["widths"])]
gain = mean(row["matched"] for row in wide) - mean(row["mean"] for row in wide)
se.show("11.wide_mlps", gain, "two wide MLPs: matching adds to their mean", unit="points", slack=3)
falls = {(row["to"], row["way"]): row["barrier"] for row in ways["lines"]}
for (to, way), fall in falls.items():
    name = f"11.vit_{to}_{way.replace(' ', '_')}"
    se.show(name, fall, f"barrier to the {to}, {way}", unit="points", slack=3)
se.claim("11.wide_mlps_gain_by_matching", by=gain, at_least=5)
se.claim("11.the_copy_has_no_barrier", by=1 - falls["copy", "matched"])
se.claim("11.between_two_vits_it_stays", by=falls["stranger", "matched"], at_least=50)

# %% [markdown]
# Between two MLPs the order is most of the difference. Between two CLIPs of this size it is not: a barrier stays, though
# the very same program finds a shuffled copy to the last unit. Why? Look at what matched units say to the same images:

# %%
for row in ways["units"]:
    if row["to"] in ("copy", "pocket-other-base"):
        blocks, slug = row["blocks"], row["to"].replace("pocket-other-base", "stranger")
        for key, label in (("matched", "a unit and its match"), ("linear", "R^2 of a linear map from all units")):
            value = 100 * mean(block[key] for block in blocks)
            se.show(f"11.units_{slug}_{key}", value, f"{slug}: {label}, mean over blocks", unit="%", slack=4)
alike = {row["to"]: mean(block["matched"] for block in row["blocks"]) for row in ways["units"]}
se.claim("11.matched_units_say_other_things", by=30 - 100 * alike["pocket-other-base"], unit="%")

# %% [markdown]
# The stranger's units are no copies of ours: a correlation near 0 with the partner that the weights suggest. A *linear
# map* of all of them explains much more, and no order of units is such a map.

# %%
# QUIZ 11.q3

# %% [markdown]
# ## An old task vector, a new release
#
# A vendor replaces the base by a new release, of another training, and your expert belongs to the old one. Its task
# vector is written in the old base's units. Re-basin of task vectors matches the two *bases*, which know nothing of
# your task, and carries it over, $\theta = \theta_{new} + \alpha\, \pi(\tau)$. To find $\pi$ no image is needed ($\alpha$ was
# chosen on validation images). What is kept of each expert's gain, on three kinds of new release:

# %%
se.figure(*plots.carried(ways["release"]))
gains = {}
for row in ways["release"]:
    gains.setdefault((row["to"], row["way"]), []).append(row["kept"])
gains = {which: mean(values) for which, values in gains.items()}
for (to, way), value in gains.items():
    slug = f"{to}_{way}".replace(" ", "_").replace("-", "_")
    se.show(f"11.carried_{slug}", value, f"{to}, {way}: gain kept", unit="%", slack=4)
copied, grown = gains["a permuted copy", "units matched"], gains["a continuation", "as it is"]
se.claim("11.carried_to_a_copy_nothing_is_lost", by=copied, at_least=95, unit="%")
se.claim("11.a_continuation_takes_it_as_it_is", by=grown, at_least=70, unit="%")
new = max(value for (to, _), value in gains.items() if to == "pocket-second-base")
se.claim("11.another_training_keeps_little", by=20 - new, unit="%")

# %% [markdown]
# A release that is the old base in another order gets everything back, once it is matched; one that *grew out of* the old
# base (here: the mean of the other experts) takes the vector as it is. One that was trained anew takes next to nothing,
# whatever is matched, and the reason is the one above. The paper reports gains between CLIPs of ViT-B size. Before you
# carry a vector, measure whether the two bases' units correspond at all.

# %% [markdown]
# ## What the one who trains can do
#
# All methods so far take the experts as they are. Whoever trains them can do something for the one who merges:
#
# * **sparse fine-tuning**: after each step every entry of $\tau$ shrinks by a share of the learning rate, and stays at 0
#   unless the task pulls harder (the suite `pocket-sparse`);
# * **OSRM**, for LoRA: begin $A$ in the directions that the *other* tasks' inputs hardly use, so that $B A x \approx 0$ for
#   them whatever $B$ learns.
#
# The first one settles a question that notebook 06 had to leave open. SA-Merging presupposes that updates are
# redundant. **Where they are, does choosing entries by saliency pay?** (`samerge-edu study sparse`; the spread over five subsets of
# the experts stands in brackets; one or two points are noise.)

# %%
trained_for_it = scale.recorded("sparse")
print(f"{trained_for_it['test_images']} images a task; stopped early: {trained_for_it.get('stopped', 'no')}")
se.figure(*sparse.figure(trained_for_it))
own = {name: [row for row in trained_for_it["experts"] if row["suite"] == name] for name in sparse.SUITES}
tenth = {name: mean(row["kept"]["0.1"] for row in rows) for name, rows in own.items()}
for name, rows in own.items():
    slug = name.replace("-", "_")
    se.show(f"11.{slug}_home", mean(row["home"] for row in rows), f"{name}: an expert at home", slack=1)
    se.show(f"11.{slug}_ood", mean(row["ood"] for row in rows), f"{name}: an expert abroad", slack=1.5)
    se.show(f"11.{slug}_tenth", tenth[name], f"{name}: gain kept by a tenth of its entries", unit="%", slack=4)
se.claim("11.a_tenth_carries_a_sparse_task", by=tenth["pocket-sparse"] - tenth["pocket"], at_least=15, unit="%")
homes, foreign = ([mean(row[key] for row in rows) for rows in own.values()] for key in ("home", "ood"))
se.claim("11.sparse_experts_forget_less", by=foreign[1] - foreign[0], at_least=4)
se.claim("11.and_are_worse_at_home", by=homes[0] - homes[1], at_least=1)

# %%
table = sparse.gains(trained_for_it, "pocket-sparse").set_index("variant")
for name in ("TA", *sparse.MASKS, "TSV-M", "WUDI (optimum, matrices)"):
    slug = "".join(c if c.isalnum() else "_" for c in name.lower())
    se.show(f"11.sparse_{slug}", table.id_avg[name], f"sparse experts, {name}: ID average", slack=1.5)
saliency = max(table.id_avg[name] for name in sparse.MASKS if name.startswith("SA"))
se.claim("11.saliency_does_not_pay_here_either", by=table.id_avg["TA"] - saliency, at_least=-1.5)
se.claim("11.directions_pay", by=table.id_avg["TSV-M"] - saliency, at_least=3)

# %% [markdown]
# The experts were made so that a tenth of their entries carries the task, and still no mask beats the plain sum of
# them, whatever the saliency. What pays is, again, directions. The price of sparse training is paid at home, and its
# gift is abroad: the experts forget less.
#
# OSRM does for inputs what sparsity does for entries. Four tasks, experts of rank 4, all subsets of three and the whole
# (`samerge-edu study osrm`):

# %%
orthogonal = scale.recorded("osrm")
print(f"{orthogonal['test_images']} images a task; stopped early: {orthogonal.get('stopped', 'no')}")
se.figure(*osrm.figure(orthogonal))
answers = {}
for row in orthogonal["experts"]:
    answers.setdefault(row["kind"], []).append(100 * row["answer"])
for kind, values in answers.items():
    slug = kind.lower().replace(", ", "_").replace(" ", "_")
    se.show(f"11.answers_{slug}", mean(values), f"{kind}: answer to the others' inputs, own = 100", unit="", slack=3)
merged = osrm.gains(orthogonal, "TA")
for kind in merged.index:
    slug = kind.lower().replace(", ", "_").replace(" ", "_")
    se.show(f"11.merged_{slug}", merged.id_avg[kind], f"{kind}: sum of all, ID average", slack=1.5)
se.claim("11.osrm_experts_still_answer_the_others", by=mean(answers["OSRM"]), at_least=60, unit="%")
se.claim("11.osrm_is_no_better_to_merge_here", by=merged.id_avg["LoRA"] - merged.id_avg["OSRM"], at_least=-1)

# %% [markdown]
# The experts that began orthogonally answer the others' inputs nearly as much as the plain ones, so there is little for a
# merge to gain, and none is seen. Cutting finished experts to the same directions is no way either: what the others use
# least the own task hardly uses, and most of the expert is lost. Two reasons are possible: $A$ is trained as well and may leave where it began, and the
# tasks of one small world share the directions of their inputs. Which of the two it is was not tried. (The paper merges
# language models.)

# %% [markdown]
# ## More experts
#
# Every system of this notebook grows with N, and so does the interference in one state dict. How fast? Six methods on 1
# to 8 experts, scales chosen on validation (`samerge-edu study scale`; few images and few subsets for each N, so that three
# points are noise, more at small N):

# %%
grown = scale.recorded("scale")
se.figure(*scale.figure(grown))
at = {name: {N: mean(line["id"] for line in lines) for N, lines in scale.by_size(grown, name).items()}
      for name in scale.methods_of(grown)}
for N in (2, 4, 8):
    for name in ("Average", "SA-Merging", "TSV-M"):
        slug = name.lower().replace("-", "_")
        se.show(f"11.at_{N}_{slug}", at[name][N], f"{N} experts, {name:10}: average of their tasks", slack=1.5)
ahead = {N: at["TSV-M"][N] - at["Average"][N] for N in (2, 8)}
se.claim("11.more_experts_cost", by=at["TSV-M"][2] - at["TSV-M"][8], at_least=3)
se.claim("11.methods_matter_more_with_more_experts", by=ahead[8] - ahead[2], at_least=3)

# %% [markdown]
# With more experts the method matters more: the gap between the average and TSV-M grows.
#
# And WUDI's optimum at four? It is far below itself at three and five. A matrix `c_proj` has 640 inputs and 160 outputs; its
# least squares has 160 equations from each expert. Four experts: as many equations as unknowns, $4 \cdot 160 = 640$.
# There every equation can just be fulfilled, at any price: the peak of "double descent". How badly is it conditioned?

# %%
key = "transformer.resblocks.2.mlp.c_proj.weight"
decades = {}
for N in (3, 4, 5):
    s = torch.linalg.svdvals(torch.cat([tau[key] for tau in taus[:N]]).double())
    decades[N] = (s[0] / s[-1]).log10().item()
    label = f"{N} experts, {160 * N} equations: largest by smallest singular value"
    se.show(f"11.condition_{N}", decades[N], label, unit="decades", digits=1, slack=0.3)
wudi = at["WUDI (optimum, every matrix)"]
se.claim("11.wudi_breaks_at_four", by=min(wudi[3], wudi[5]) - wudi[4], at_least=20)
worse = decades[4] - max(decades[3], decades[5])
se.claim("11.four_experts_are_the_edge", by=worse, at_least=1, unit="decades")

# %% [markdown]
# *Why do more experts fail?* asks what the next expert still gains, over the tasks of *all* experts. Two of its
# statements can be looked at here: that each further one gains less, and that the space of updates fills up
# (`samerge-edu study more-experts`). That a unique best number exists is a statement about random sets in high
# dimension; eight experts of one base are no sample of them.

# %%
further = scale.recorded("more-experts")
se.figure(*more_experts.figure(further))
steps = {name: [mean(at_N) for at_N in gained] for name, gained in further["steps"].items()}
for name in ("Average", "TSV-M"):
    slug = name.lower().replace("-", "_")
    early, late = sum(steps[name][1:4]), sum(steps[name][5:])
    se.show(f"11.early_{slug}", early, f"{name}: experts 2 to 4 gain, over all tasks", unit="points", slack=3)
    se.show(f"11.late_{slug}", late, f"{name}: experts 6 to 8", unit="points", slack=3)
    se.show(f"11.first_{slug}", steps[name][0], f"{name}: expert 1, beside the base", unit="points", slack=3)
fewer = sum(steps["Average"][1:4]) - sum(steps["Average"][5:])
se.claim("11.later_experts_add_less_to_an_average", by=fewer, at_least=5)
se.claim("11.the_average_is_done_after_five", by=2 - max(steps["Average"][5:]))
se.claim("11.for_tsv_the_last_ones_still_gain", by=sum(steps["TSV-M"][5:]), at_least=3)
rank = more_experts.by_number(further, "rank")
se.show("11.rank_1", 100 * rank[0], "effective rank of one update, of the largest possible", slack=3)
se.show("11.rank_8", 100 * rank[-1], "... of the sum of eight", slack=3)
se.claim("11.the_space_fills_up", by=rank[3] - rank[0] - (rank[7] - rank[3]), at_least=0.03, unit="")

# %% [markdown]
# The first expert even costs, for it is added at full strength and the other seven tasks pay. From the second on the
# gain falls, as the paper says, and the effective rank of the sum grows in the first half and hardly in the second. But
# *where* it ends belongs to the method as much as to the experts: the average has nothing more to gain after five, and
# TSV-M has.

# %%
# OPEN 11.open

# %% [markdown]
# ## What to remember
#
# * One state dict is a choice. Beside each number stands what is kept, in bytes, and who knows the task.
# * A router's errors cost less than their number, at home. Abroad it has no right answer unless "none" is one.
# * Count the shared vector of the masks, and put two controls in the table: the best single model, and the parts
#   without a merge below.
# * Whoever trains can make experts that forget less. It does not make a choice of entries pay.
# * Units have no order of their own. A program that finds a shuffled copy works; whether two trainings are copies is
#   another question.
#
# ## Further reading
#
# * Lu et al., *Twin-Merging: dynamic integration of modular expertise*, arXiv:2406.15479
# * Zheng and Wang, *FREE-Merging*, arXiv:2411.16815
# * Wang et al., *Localizing task information for improved model merging and compression* (TALL masks), arXiv:2405.07813
# * He et al., *Localize-and-Stitch*, arXiv:2408.13656
# * Ainsworth, Hayase and Srinivasa, *Git Re-Basin*, arXiv:2209.04836; Stoica et al., *ZipIt!*, arXiv:2305.03053
# * Rinaldi et al., *Update your transformer to the latest release*, arXiv:2505.22697
# * Zhang and Zhou, *Unraveling LoRA interference* (OSRM), arXiv:2505.22934
# * Yadav et al., *What matters for model merging at scale?*, arXiv:2410.03617
# * Wang et al., *Why do more experts fail?*, arXiv:2505.21226
#
# ## Claims
#
# | claim | status |
# |---|---|
# | A tenth of each expert, stitched, is as good as the average | measured here, 50 images a task: `11.a_tenth_is_as_good_as_all` |
# | Regions learned from labels are better than the largest entries | paper, arXiv:2408.13656; not so here with the authors' settings, measured here: `11.learned_regions_are_behind_large_ones` |
# | A router costs little at home, and what can be predicted from its confusion | measured here: `11.a_router_costs_little_at_home`, `11.the_prediction_is_near` |
# | Abroad a router does harm | measured here, whole experts: `11.abroad_a_router_harms` |
# | A threshold gives back much of it for little at home | measured here, chosen at home: `11.none_helps_abroad`, `11.none_costs_little_at_home` |
# | With four megabytes and a router every single model is beaten | measured here: `11.rank_8_beats_every_single_model` |
# | A merge below the parts helps while they are small | measured here: `11.a_merge_below_helps_small_parts`, `11.and_hardly_larger_ones` |
# | LoRA experts of rank 4 are as good as experts cut to rank 4 | measured here, routed, up to a point: `11.trained_small_is_as_good_as_made_small` |
# | Masks of 1 bit keep nearly all of N experts | paper, arXiv:2405.07813; at eight experts low rank keeps more in fewer bytes, measured here: `11.masks_do_not_lead_at_eight_experts` |
# | With larger parts the router is the limit | measured here: `11.the_router_is_the_limit` |
# | Small MLPs of two beginnings can be averaged once they are matched | measured here: `11.matching_opens_the_way`, `11.wide_mlps_gain_by_matching`; paper, arXiv:2209.04836 |
# | A ViT with its heads moved is the same function and a bad partner for a mean | measured here: `11.one_function_and_a_bad_mean` |
# | A shuffled copy of a ViT is found again | measured here: `11.every_unit_is_found_again`, `11.the_copy_has_no_barrier` |
# | Two ViTs of two beginnings can be averaged once they are matched | not so here, measured here: `11.between_two_vits_it_stays` |
# | A task vector carried to a new release keeps its gain | to a permuted copy and to a continuation, measured here: `11.carried_to_a_copy_nothing_is_lost`, `11.a_continuation_takes_it_as_it_is` |
# | ... and to a release that was trained anew | paper, arXiv:2505.22697; not so here, measured here: `11.another_training_keeps_little` |
# | Sparse fine-tuning: a tenth of the entries carries the task, less is forgotten abroad, home pays | measured here: `11.a_tenth_carries_a_sparse_task`, `11.sparse_experts_forget_less`, `11.and_are_worse_at_home` |
# | Where updates are redundant, choosing entries by saliency pays | not so here, in our noise; directions do: measured here: `11.saliency_does_not_pay_here_either`, `11.directions_pay` |
# | LoRA begun orthogonally to the other tasks merges better (OSRM) | paper, arXiv:2505.22934; not so here, where inputs share their directions, measured here: `11.osrm_experts_still_answer_the_others`, `11.osrm_is_no_better_to_merge_here` |
# | More experts cost, and the method matters more | measured here, TSV-M and the average at 2 and 8: `11.more_experts_cost`, `11.methods_matter_more_with_more_experts`; paper, arXiv:2410.03617 |
# | Later experts add less, and the space fills up | paper, arXiv:2505.21226; measured here, the average: `11.later_experts_add_less_to_an_average`, `11.the_space_fills_up` |
# | There is one number of experts beyond which nothing is gained | five for the average, and not for TSV-M, measured here: `11.the_average_is_done_after_five`, `11.for_tsv_the_last_ones_still_gain`; in general open |
# | WUDI's optimum over every matrix breaks at four experts, where equations and unknowns are as many | measured here: `11.wudi_breaks_at_four`, `11.four_experts_are_the_edge` |
# | The same for ViT-B/32 | open |
