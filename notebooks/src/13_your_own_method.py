# %% [markdown]
# # 13 Your own method
#
# **You will be able to**
#
# * write a merging method as a transform and a merge, check its contract, and hand it in with the data it needs;
# * take it apart with a spread, and set a random counterpart beside it over the effective scale;
# * say how many images a claim needs, and rank methods no finer than the images allow;
# * report it on one page, and grade such a page.
#
# **Needs** notebooks 01, 02, 06 and 09. **Minutes** {reading} to read, {exercises} for the exercises, an afternoon for your own method; runs in
# about a minute on two cores (pocket suite). On Colab: File, Save a copy in Drive, before you start.

# %% [markdown]
# ## The contract
#
# A method takes N task vectors, dictionaries with the same names, and returns one: $\tau_1 \dots \tau_N \mapsto \tau_m$. Then
# $\theta = \theta_0 + \mathrm{lam}\, \tau_m$. There are two kinds of part. A **transform** returns as many task vectors as it
# gets, a **merge** returns one, and `se.pipe(transform, merge)` is a method. Four things have to hold, or a number on a
# leaderboard means nothing: names, shapes and dtypes come back, all numbers are finite, the same input gives
# the same output, and the input is left alone.

# %%
# EXERCISE 13.1

# %% [markdown]
# `se.check_method` tries all four on small task vectors, and tells what else is true of your method.

# %%
for line in str(se.check_method(mean_update, "mean")).splitlines():
    print(line.partition(" (")[0])  # without what was seen where the answer is no

# %% [markdown]
# The only *no* is about 16-bit weights, which this mean adds up in 16 bits. On the pocket suite, in 32 bits, it does not matter.
#
# ## An idea, before any number
#
# From here on we go through one method as you will go through yours. First one or two sentences that could turn out wrong:
#
# > In some directions the sum of all updates is much louder than on average, since several experts use them (notebook 09).
# > A quiet expert is drowned there. **Turn the loud directions of the sum down to the average, and leave the others alone.**
#
# It is not far from Iso-C, which makes all directions equally loud; here the quiet ones stay quiet. How could it fail? If what is
# loud is what the tasks have in common, turning it down costs what all of them need.

# %%
# EXERCISE 13.2

# %% [markdown]
# A model has other tensors than the matrices in its blocks: biases, gains, embeddings. They have no directions in this
# sense. For them we take the mean, by a transform that divides by N before the sum.

# %%
from samerge_edu.matrices import block_weight

suite = se.load_suite(lab.suite)
theta_0, tasks = suite.theta_0, suite.id_tasks
taus = [dict(tau) for tau in se.task_vectors(theta_0, list(suite.experts.values()))]


def quieter_outside(taus):
    """Outside the blocks' matrices divide by N: there the sum will be the mean."""
    return [{k: v if block_weight(k, v) else v / len(taus) for k, v in tau.items()} for tau in taus]


def limited_sum(taus):
    """The sum, its loud directions turned down in the matrices of the blocks."""
    return {k: limit(v) if block_weight(k, v) else v for k, v in se.task_arithmetic(taus).items()}


method = se.pipe(quieter_outside, limited_sum)
report = se.check_method(method, "limiter")
print(str(report).splitlines()[0])

# %% [markdown]
# ## The control: the same, by lot
#
# Notebook 06 has taught how a comparison goes wrong. A limiter also makes the update shorter, so a difference at one lam may be a
# difference of length. And if it helps, is it *which* directions were turned down, or that some were?

# %%
# QUIZ 13.q1

# %% [markdown]
# A limiter multiplies each strength $S_i$ by a factor $f_i = \min(1, c\,\bar S / S_i)$. The counterpart deals the same factors
# to the directions by lot. And all of them are drawn over the effective scale $a$, how far the model moves along the plain sum.

# %%
from samerge_edu.matrices import thin_svd

plain = se.task_arithmetic(quieter_outside(taus))
svd = {k: thin_svd(v) for k, v in plain.items() if block_weight(k, v)}


def by_lot(seed):
    """The plain sum, with the limiter's factors dealt to the wrong directions."""
    generator, tau_m = torch.Generator().manual_seed(seed), dict(plain)
    for k, (U, S, Vt) in svd.items():
        factors = (S.mean() / S.clamp(min=1e-12)).clamp(max=1.0)
        tau_m[k] = U * (S * factors[torch.randperm(len(S), generator=generator)]) @ Vt
    return tau_m


ways = {"limiter": method(taus), "no limit": plain} | {f"by lot {seed}": by_lot(seed) for seed in range(3)}

# %%
from samerge_edu.course.drawings import d13
from samerge_edu.evaluate import id_average

star = se.flatten(se.task_arithmetic(taus))
SCALES = (0.08, 0.16, 0.25, 0.4, 0.6)


def effective_scale(tau_m):
    return (se.flatten(tau_m) @ star / (star @ star)).item()  # notebook 06


curves = {}
for name, tau_m in ways.items():
    e = effective_scale(tau_m)
    curves[name] = [id_average(suite, se.add(theta_0, tau_m, a / e), "val", 40) for a in SCALES]
se.figure(*d13.over_the_scale(SCALES, curves))

# %%
peak = {name: max(curve) for name, curve in curves.items()}
luckiest = max(peak[name] for name in peak if name.startswith("by lot"))
se.show("13.peak.limiter", peak["limiter"], "limiter, at its best scale", slack=2)
se.show("13.peak.no_limit", peak["no limit"], "no limit, at its best scale", slack=2)
se.show("13.peak.lots", luckiest, "the luckiest of three lots, at its best scale", slack=2)
small, large = (curves["limiter"][i] - curves["no limit"][i] for i in (0, -1))
se.claim("13.limiter_above_no_limit", by=peak["limiter"] - peak["no limit"], at_least=1.5)
se.claim("13.limiter_above_lots", by=peak["limiter"] - luckiest, at_least=1.0)
se.claim("13.little_to_see_at_a_small_scale", by=3 - abs(small), at_least=0)
se.claim("13.limiter_may_go_further", by=large, at_least=5)
se.show("13.small", small, f"limiter - no limit at a = {SCALES[0]}", "points", slack=2)

# %% [markdown]
# So this is another case than notebook 06. There all masks lay on one curve: a mask was a scale in disguise. Here the
# limiter leaves the curve of its counterpart, and it may go further along the sum before it falls. Look at the smallest
# scale, too: there the two are within three points. Had we compared at that one only, we would have learnt little.

# %% [markdown]
# ## Taken apart
#
# There are three choices in the method: to limit, to limit *the sum*, and the mean outside. Take each out on its own. Each variant
# gets its own scale from validation, and merges three subsets of the experts: all eight, and two of six. The differences are taken
# within a subset, and their standard deviation over the subsets is the spread.

# %%
from samerge_edu.studies import ablation


def limit_each(taus):
    """The limiter on every expert, before the sum."""
    return [{k: limit(v) if block_weight(k, v) else v for k, v in tau.items()} for tau in taus]


variants = {
    "the whole": method,
    "no limit": se.pipe(quieter_outside, se.task_arithmetic),
    "each expert limited": se.pipe(quieter_outside, limit_each, se.task_arithmetic),
    "the sum outside": limited_sum,
}
rows = ablation.run(suite, variants, n=25)
gains = ablation.table(rows, "the whole")
se.figure(*d13.ablation(gains, "the whole"))

# %%
gain = dict(zip(gains.variant, gains.id_gain, strict=True))
spread = dict(zip(gains.variant, gains.id_spread, strict=True))
se.claim("13.whole_above_no_limit", by=-gain["no limit"], at_least=1.0)
for name in list(variants)[1:]:
    slug = name.replace(" ", "_")
    se.show(f"13.without.{slug}", gain[name], f"{name}: beside the whole", "points", slack=2)
    se.show(f"13.spread.{slug}", spread[name], f"{'':{len(name)}}  spread over three subsets", "points", slack=1.5)

# %% [markdown]
# Three subsets, of which two share most experts, are few: a spread of that size can be wrong by half. Call a difference one
# only if it is well above its spread.

# %% [markdown]
# ## How many images?

# %%
# EXERCISE 13.3

# %%
for points in (0.5, 1.0, 2.0, 4.0):
    print(f"{points:3} points at 78 %: {images_needed(points, 78.0):6} images")

# %% [markdown]
# The curves above looked at 320 images, eight tasks of 40. The rule is for one number by itself; two methods that are
# tested on the *same* images differ by less than it says, since what is hard is hard for both. It is a rule to be humble by.

# %%
# QUIZ 13.q2

# %% [markdown]
# ## Handing in
#
# A submission is one file: the parts as above, and a head that says whose it is, which data it needs, and its published scale.
# This one comes with the package.

# %%
from pathlib import Path

from samerge_edu.course import capstone
from samerge_edu.course.capstone import ranking, submission

examples = Path(capstone.__file__).parent / "examples"
text = (examples / "limiter.py").read_text(encoding="utf-8")
print(text[: text.index("def quieter_outside")].strip())

# %% [markdown]
# `samerge-edu submit FILE` merges it in a process of its own, within limits of time and memory. That process has the task vectors
# and what the head declares: nothing, or validation images without or with labels. It has no test image, and nothing to draw
# one with. What comes back is $\tau_m$, and accuracy is measured elsewhere.

# %%
handed_in = submission.read(examples / "limiter.py")
found, tau_m = ranking.merge(handed_in)
print("\n".join(ranking.report(handed_in, found).splitlines()[:6]))
far = (se.flatten(tau_m) - se.flatten(method(taus))).norm() / se.flatten(tau_m).norm()
print("the same as the one above:", bool(far < 1e-3))

# %% [markdown]
# `submit` shows validation accuracy only: look as often as you like. Test images are looked at once. Here, for the
# method as it stands, at home and abroad, beside two known ones, each at its scale from validation (40 images a task):

# %%
experts = ranking.own_accuracy(suite, "test", 40)  # what is normal for each task
known = {name: se.METHODS[name].recipe(suite)(taus) for name in ("Task Arithmetic", "TSV-M")}
table = {}
for name, merged in {"Limiter": tau_m, **known}.items():
    _, table[name] = ranking.measure(suite, merged, 1.0, experts, "test", 40)
at_home = {name: row["id_avg"] for name, row in table.items()}

# %%
se.claim("13.limiter_above_sum_at_home", by=at_home["Limiter"] - at_home["Task Arithmetic"], at_least=1.5)
se.claim("13.tsv_m_ahead_at_home", by=at_home["TSV-M"] - at_home["Limiter"], at_least=0)
for name, row in table.items():
    print(name)
    for key, what in {"id_avg": "at home", "id_worst": "its worst task", "ood_avg": "abroad", "h": "H"}.items():
        se.show(f"13.{name}.{key}", row[key], f"  {what}", slack=3 if key != "id_worst" else 6)

# %% [markdown]
# ## A class
#
# `samerge-edu class-leaderboard FOLDER` does this for a folder. The teacher may give it any number with `--exam`: it then draws
# test images that no file holds and nobody has seen, so that no method can have been tuned on them, on purpose or not.
# Three submissions come with the package. They were measured in this way, so on other images than the limiter above:

# %%
import json

recorded = json.loads((examples / "class.json").read_text(encoding="utf-8"))
print(f"exam {recorded['exam']}, {recorded['images']} images a task")
print(ranking.text([{k: v for k, v in row.items() if k != "seconds"} for row in recorded["rows"]]))

# %% [markdown]
# The ranks stop where the images stop.

# %%
# EXERCISE 13.4

# %%
entries = {row["method"]: row["h"] for row in recorded["rows"] if row["author"]}
print(dict(zip(entries, standing(list(entries.values())), strict=True)))

# %% [markdown]
# ## One page, twenty points
#
# | | asked for | points |
# |---|---|---|
# | 1 idea | what it looks at and why that should help, written before the result | 3 |
# | 2 contract | `submit` passes; the data need is declared | 3 |
# | 3 ablation | each part out on its own, with the spread over subsets | 4 |
# | 4 control | a random counterpart, over the effective scale | 4 |
# | 5 home and abroad | ID, worst task, OOD, H, beside two known methods | 2 |
# | 6 conclusion | no wider than the numbers; near-ties; what failed | 3 |
# | 7 again | command, seed, images | 1 |
#
# **A method that helps earns nothing for helping.** The points are for knowing whether it does. Here is a report of a fellow
# student. How many points do you give, and for what?

# %%
print((examples / "strongest_half.md").read_text(encoding="utf-8"))

# %% [markdown]
# Our grading of it, and of the other two, is beside it: `strongest_half_graded.md`, `limiter_graded.md`,
# `best_students_graded.md` in the package's folder `course/capstone/examples`.

# %%
# OPEN 13.open

# %% [markdown]
# ## What to remember
#
# * A method is task vectors in, one update out, nothing changed on the way, the same twice.
# * Write the idea down first, with a way in which it could fail.
# * Take each part out. Then deal the choice by lot. Only the second tells whether the choice matters.
# * Compare curves over the effective scale, or peaks; one lam compares lengths.
# * Choose on validation as often as you like; look at test once.
#
# ## Further reading
#
# * Marczak et al.: *No task left behind: isotropic model merging*, 2025, arXiv:2502.04959: Iso-C, the neighbour of the limiter.
# * Su et al.: *Sanity-checking pruning methods*, 2020, arXiv:2009.11094: counterparts by lot, and what they bring down.
# * Dehghani et al.: *The benchmark lottery*, 2021, arXiv:2107.07002: how a choice of tasks decides who wins.
#
# ## Claims
#
# | claim | status |
# |---|---|
# | The limiter is above the same sum without a limit, each at its best effective scale | measured here: `13.limiter_above_no_limit` |
# | It matters which directions are turned down: the same factors by lot do not reach it | measured here, three lots: `13.limiter_above_lots` |
# | The limit is worth its place on three subsets of the experts | measured here: `13.whole_above_no_limit` |
# | At home the limiter is above Task Arithmetic, each at its validated scale | measured here: `13.limiter_above_sum_at_home` |
# | At home TSV-M is still ahead of the limiter | measured here: `13.tsv_m_ahead_at_home` |
# | At one small effective scale there is little to see | measured here: `13.little_to_see_at_a_small_scale` |
# | The limiter may go further along the sum | measured here: `13.limiter_may_go_further` |
# | It helps large models | open: `samerge-edu leaderboard --suite vit-b-32 --add FILE` |
