# %% [markdown]
# # 09 Spectral methods and least squares: merge directions, not entries
#
# **You will be able to**
#
# * read the update of a matrix by its singular values, and cut it to the directions that carry it;
# * remove the overlap of experts' directions by whitening (TSV-M), flatten a spectrum (Iso-C), and say what a measure
#   of interference misses;
# * derive the one least-squares problem behind RegMean, ACTMat, WUDI and TACT, and choose its Gram matrix;
# * see what an average over tasks hides: the worst task.
#
# **Needs** notebooks 01 and 02. **Minutes** {reading} to read, {exercises} for the exercises; runs in less than a minute on two cores
# (pocket suite). On Colab: File, Save a copy in Drive, before you start.

# %%
from statistics import mean

from samerge_edu import plots
from samerge_edu.evaluate import accuracy, choose_lam, id_average, scores
from samerge_edu.matrices import block_weight, nearest_orthonormal, thin_svd

suite = se.load_suite(lab.suite)
theta_0, tasks = suite.theta_0, suite.id_tasks
taus = se.task_vectors(theta_0, list(suite.experts.values()))
N = len(taus)
keys = [k for k in theta_0 if block_weight(k, theta_0[k])]  # the four matrices of each transformer block
share = sum(theta_0[k].numel() for k in keys) / sum(v.numel() for v in theta_0.values())
print(f"{N} experts; {len(keys)} matrices in the blocks hold {100 * share:.0f} % of all parameters")

# %% [markdown]
# ## A matrix is a list of wires
#
# Notebook 02 looked at a task vector entry by entry. But a layer does not use entries: it multiplies. The singular
# value decomposition writes an update as a sum of **wires**, each from one input direction to one output direction:
#
# $$\tau = \sum_i S_i\, u_i v_i^T \qquad \text{input } x \;\mapsto\; \sum_i S_i\, (v_i \cdot x)\; u_i$$
#
# The $v_i$ are orthogonal to each other, the $u_i$ too, and $S_i \ge 0$ falls with $i$. A wire listens to $v_i$,
# answers with $u_i$, and amplifies by $S_i$.

# %%
tau_toy = torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, 0.0]])  # out = 2, in = 3
U, S, Vt = torch.linalg.svd(tau_toy, full_matrices=False)
for i in range(2):
    print(f"wire {i}: listens to {Vt[i].abs().tolist()}, answers {U[:, i].abs().tolist()}, strength {S[i].item():.0f}")
print("input (1, 1, 5) gives", (tau_toy @ torch.tensor([1.0, 1.0, 5.0])).tolist(), "- the third input wakes no wire")

# %%
# EXERCISE 09.1

# %% [markdown]
# ### How many wires does an expert need?
#
# Two measurements. First the strengths of one real matrix, beside those of random numbers of the same size: without
# that control every falling curve looks like structure. Then the test that counts: cut *every* block matrix of an
# expert to $k$ directions and look at its accuracy on its own task.

# %%
svd = {k: thin_svd(torch.stack([t[k] for t in taus])) for k in keys}  # U (N, out, r), S (N, r), Vt (N, r, in)


def cut(k):
    """Every expert, its block matrices cut to their k strongest directions."""
    edited = [dict(t) for t in taus]
    for key, (U, S, Vt) in svd.items():
        for t, matrix in zip(edited, U[..., :k] * S[:, None, :k] @ Vt[:, :k], strict=True):
            t[key] = matrix
    return edited


def own_accuracy(edited, n=50):
    """Mean over the experts of the accuracy of theta_0 + tau_n on task n, on n validation images."""
    pairs = zip(tasks, edited, strict=True)
    return mean(accuracy(suite, se.add(theta_0, t), task, "val", n) for task, t in pairs)


# %%
r = min(len(svd[k][1][0]) for k in keys)  # the rank of the smallest matrix
ranks = sorted({1, r // 32, r // 16, r // 8, r // 2, r})
own = [own_accuracy(cut(k)) for k in ranks]
key = next(k for k in keys if k.endswith("mlp.c_fc.weight"))
S = svd[key][1]
noise = torch.linalg.svdvals(torch.randn(theta_0[key].shape, generator=torch.Generator().manual_seed(0)))
se.figure(*plots.directions_kept(S, noise, ranks, own))
se.show("09.rank_eighth", own[ranks.index(r // 8)], "own task, an eighth of the directions", slack=3)
energy = (S[:, : r // 8].square().sum(dim=1) / S.square().sum(dim=1)).mean()
by_chance = noise[: r // 8].square().sum() / noise.square().sum()
se.show("09.energy_eighth", 100 * energy, "squared length in an eighth of the directions", slack=2)
se.show("09.energy_eighth_random", 100 * by_chance, "... of random numbers", slack=2)
se.claim("09.an_eighth_carries", by=own[ranks.index(r // 8)] - own[-1], at_least=-3)

# %% [markdown]
# An eighth: that is the number each of $N = 8$ experts may have, if all of them are to fit into the $r$ directions of
# one matrix. TSV-M starts here.

# %% [markdown]
# ## When two wires touch
#
# Add the wires of two experts, $\tau_m = S_1 u_1 v_1^T + S_2 u_2 v_2^T$, and send in the input that expert 1 listens
# to:
#
# $$\tau_m v_1 = S_1 u_1 + S_2\, (v_2 \cdot v_1)\, u_2$$
#
# The second term is the disturbance, and it is there as soon as the **inputs** overlap ($v_2 \cdot v_1 \ne 0$). The
# outputs decide where it goes: onto expert 1's own answer if $u_2 \cdot u_1 \ne 0$, beside it if not. By hand:
# $v_1 = (1, 0)$, $v_2 = (0.6, 0.8)$ and the same for the outputs, strengths 2 and 1.

# %%
u_1, u_2 = torch.tensor([1.0, 0.0]), torch.tensor([0.6, 0.8])
v_1, v_2 = u_1, u_2
tau_m = 2 * torch.outer(u_1, v_1) + 1 * torch.outer(u_2, v_2)
answer = tau_m @ v_1
print("wanted", (2 * u_1).tolist(), "got", [round(x, 2) for x in answer.tolist()])
print(f"along u_1: {answer @ u_1:.2f} instead of 2: 18 % too loud, and something beside it")

# %%
# QUIZ 09.q1

# %% [markdown]
# TSV-M's authors put overlap into one number. Write the kept directions of all experts side by side,
# $U = [U_1 \dots U_N]$, $V = [V_1 \dots V_N]$, and $S$ for all strengths. Were all directions orthogonal, $U^T U$ and
# $V^T V$ would be identities. Their number multiplies what is left of both: it counts the disturbance that falls onto
# somebody's own answer, and not the one beside it. Keep that in mind for the test below.

# %%
# EXERCISE 09.2


# %%
def side_by_side(key, k):
    """U (out, N k), S (N k), V (in, N k): the k strongest directions of every expert."""
    U, S, Vt = svd[key]
    return U[..., :k].transpose(0, 1).flatten(1), S[:, :k].flatten(), Vt[:, :k].flatten(0, 1).T


def random_like(X, k, seed=0):
    """N random sets of k orthonormal columns, in the place of the experts' directions."""
    draw = torch.randn(N, len(X), k, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.qr(draw).Q.transpose(0, 1).flatten(1)


real, chance = 0.0, 0.0
for one in keys:
    U, S, V = side_by_side(one, r // N)
    real += interference(U, S, V) / S.sum()
    chance += interference(random_like(U, r // N), S, random_like(V, r // N, seed=1)) / S.sum()
se.show("09.interference", real / len(keys), "interference of the experts, for each unit of strength", unit="", slack=1)
se.show("09.interference_random", chance / len(keys), "... of random directions", unit="", slack=1)

# %% [markdown]
# Compare the two numbers, as always: $N k$ directions in a space of $r$ overlap somewhere, even random ones. What
# exceeds chance is what the experts have in common.
#
# ## Whitening: turn all directions a little
#
# If the columns of $U$ overlap, replace them by the nearest ones that do not:
# $U_\perp = \arg\min_Q \|Q - U\|_F$ with $Q^T Q = I$ (the orthogonal Procrustes problem). Which are they? Write $U$ by
# its own singular values before you write code.

# %%
# EXERCISE 09.3

# %%
pair = torch.stack([torch.tensor([0.98, -0.2]), torch.tensor([0.64, 0.77])], dim=1)
Q, R = torch.linalg.qr(pair)
versions = {"two directions": pair, "Gram-Schmidt": Q * R.diagonal().sign(), "whitened": orthonormalise(pair)}
se.figure(*plots.turned(pair, versions))

# %% [markdown]
# The same as $U (U^T U)^{-1/2}$: that is why it is called whitening. Gram-Schmidt lets the first one keep its place and
# the last one pay; whitening prefers nobody. TSV-M is now three lines: cut each expert to $k = \lfloor r / N \rfloor$
# directions, put them side by side, whiten both sides.

# %%
from samerge_edu.merges.tsv_m import tsv_m

U, S, V = side_by_side(key, r // N)
mine = orthonormalise(U) * S @ orthonormalise(V).T
difference = (tsv_m(taus)[key] - mine).norm() / mine.norm()
print("three lines and the library agree:", bool(difference < 1e-3))

# %% [markdown]
# ### Does whitening help, and which side of it?
#
# Take the steps apart: cut and add without whitening; whiten only the outputs, only the inputs, both; and Gram-Schmidt,
# whose directions are as orthogonal. Everything outside the block matrices is the plain mean in all of them. Each at
# its own scale from validation (50 images a task; test: 100 a task, so **differences of two points are noise here**).
#
# *Predict first.* The measure of 09.2 is 0 as soon as **one** side is orthogonal. If it told all, how would the three
# whitened rows differ?

# %%
results = {}


def enter(name, tau_m, lam=None):
    """Test accuracy of a merge: ID average, worst ID task, OOD average; lam from validation unless it is given."""
    lam = choose_lam(suite, tau_m, n=50)[0] if lam is None else lam
    got = scores(suite, se.add(theta_0, tau_m, lam), n=100)
    at_home = [got[t] for t in tasks]
    row = {"ID": mean(at_home), "worst": min(at_home), "OOD": mean(got[t] for t in suite.ood_tasks), "by task": at_home}
    results[name] = row | {"lam": lam}
    slug = "".join(c if c.isalnum() else "_" for c in name)
    se.show(f"09.{slug}", row["ID"], f"{name}: ID average", slack=3)
    se.show(f"09.{slug}.worst", row["worst"], f"{'':{len(name)}}  worst task", slack=6)


# %%
def merged_directions(k, outputs, inputs):
    """Cut to k directions an expert, then outputs(U) and inputs(V) side by side; all other tensors: the mean."""
    tau_m = {name: sum(t[name] for t in taus) / N for name in theta_0}
    for name in keys:
        U, S, V = side_by_side(name, k)
        tau_m[name] = outputs(U) * S @ inputs(V).T
    return tau_m


def as_they_are(X):
    return X


def gram_schmidt(X):
    Q, R = torch.linalg.qr(X)
    return Q * R.diagonal().sign()


# %%
tau_sum = {k: sum(t[k] for t in taus) for k in theta_0}
enter("sum", tau_sum)
enter("cut, not whitened", merged_directions(r // N, as_they_are, as_they_are))
enter("outputs whitened", merged_directions(r // N, nearest_orthonormal, as_they_are))
enter("inputs whitened", merged_directions(r // N, as_they_are, nearest_orthonormal))
enter("both (TSV-M)", merged_directions(r // N, nearest_orthonormal, nearest_orthonormal), 1.0)
enter("Gram-Schmidt", merged_directions(r // N, gram_schmidt, gram_schmidt))

# %%
se.figure(*plots.ranked(results, list(results)))
both, in_turn = results["both (TSV-M)"]["by task"], results["Gram-Schmidt"]["by task"]
cost = [a - b for a, b in zip(both, in_turn, strict=True)]
one_side = max(results[name]["ID"] for name in ("outputs whitened", "inputs whitened"))
se.show("09.second_side", results["both (TSV-M)"]["ID"] - one_side, "the second side adds", unit="points", slack=3)
se.show("09.first", mean(cost[: N // 2]), "Gram-Schmidt costs the first half of the experts", unit="points", slack=3)
se.show("09.last", mean(cost[N // 2 :]), "... and the last half", unit="points", slack=3)
whitened = {name: results[name]["ID"] for name in ("outputs whitened", "inputs whitened", "both (TSV-M)")}
se.claim("09.whitening_helps", by=whitened["both (TSV-M)"] - results["cut, not whitened"]["ID"], at_least=4)
se.claim("09.measure_fails", by=max(whitened.values()) - min(whitened.values()), at_least=3)

# %% [markdown]
# Cutting alone changes little; whitening is what pays. And the measure fails its test: it is 0 in all three whitened
# rows, and they differ. A disturbance that goes beside the own answer is not counted, but the next layer reads it.
# A number that explains a method is not yet a number that predicts accuracy. (One more thing to know before comparing
# tables: open_clip keeps q, k and v of an attention layer in one matrix, Hugging Face in three. The same network has
# other singular values then, and every method of this notebook another result.)

# %% [markdown]
# ## Iso-C: the same strength for every direction
#
# Iso (Marczak et al., 2025) starts from the sum and looks at its spectrum. A few directions, those that many experts
# share, are much stronger than all others; the experts whose directions are weak are drowned. So give all directions
# one strength.

# %%
# EXERCISE 09.4

# %%
from samerge_edu.merges.iso import iso_c, iso_cts

U, S, Vt = torch.linalg.svd(tau_sum[key], full_matrices=False)
inside = [((U[:, : r // N].T @ t[key]).square().sum() / t[key].square().sum()).item() for t in taus]
se.figure(*plots.heard(S, {task: 100 * x for task, x in zip(tasks, inside, strict=True)}, r // N))

# %% [markdown]
# Iso-CTS keeps 80 % of the directions from the sum (*common*), gives the rest to the experts, a few each
# (*task-specific*), whitens them together, and then one strength for all. But is *flat* the best shape? A knob that the
# paper does not have asks: raise each singular value to a power $\gamma$, at an equal mean. $\gamma = 1$ is the sum in
# the block matrices, $\gamma = 0$ is flat, $\gamma < 0$ turns the spectrum round.


# %%
def bent(gamma):
    """The sum, its singular values S^gamma at the old mean; other tensors: the mean, as in Iso-C."""
    tau_m = {name: tau_sum[name] / N for name in theta_0}
    for name in keys:
        U, S, Vt = thin_svd(tau_sum[name])
        bent_S = (S / S.mean()).clamp(min=0.05) ** gamma  # without the floor, gamma < 0 would be all noise
        tau_m[name] = U * (bent_S * S.mean() / bent_S.mean()) @ Vt
    return tau_m


for gamma in (1.0, 0.5, 0.0, -0.5):
    enter(f"sum, S^{gamma}", bent(gamma))
enter("Iso-CTS", iso_cts(taus), 1.5)
flat_gain = results["sum, S^0.0"]["ID"] - results["sum, S^1.0"]["ID"]
se.show("09.flat_gain", flat_gain, "flat gains over the sum's own shape", unit="points", slack=3)
bent_gain = max(results["sum, S^0.5"]["ID"], results["sum, S^-0.5"]["ID"]) - results["sum, S^0.0"]["ID"]
se.show("09.bent_gain", bent_gain, "the better bent shape gains over flat", unit="points", slack=3)
se.claim("09.the_sum_is_too_steep", by=flat_gain, at_least=3)
se.claim("09.flat_is_not_settled", by=-abs(bent_gain), at_least=-3)

# %% [markdown]
# **Verdict.** That the sum's own shape is too steep is far outside the noise. Whether exactly flat is best is not
# settled by 100 images a task: the last number is smaller than our noise of two points in either direction. "Flatter
# than the sum" is what these data say; "flat" is a choice that needs no tuning.

# %% [markdown]
# ## One problem behind four methods
#
# TSV-M and Iso change directions by rules. Now ask for what we want. The merged layer should answer the inputs of task
# $n$ as expert $n$ does: $\tau_m x = \tau_n x$. All wishes at once are least squares:
#
# $$\tau_m = \arg\min_X \sum_n \sum_{x \,\in\, \text{inputs of task } n} \|(X - \tau_n)\, x\|^2
#          = \arg\min_X \sum_n \mathrm{tr}\big((X - \tau_n)\, C_n\, (X - \tau_n)^T\big), \qquad C_n = \sum_x x x^T$$
#
# The inputs enter only through their Gram matrix $C_n$, (in, in): which directions of the input task $n$ uses, and how
# strongly. The problem is quadratic, so its gradient is linear in $X$.

# %%
# EXERCISE 09.5

# %% [markdown]
# What is left to choose is $C_n$, and four papers are four choices:
#
# | $C_n$ | method | needs |
# |---|---|---|
# | $X_n^T X_n$, the real inputs (off the diagonal a little less) | RegMean (Jin et al., 2023) | some images |
# | $\tau_n^T \tau_n$ | ACTMat (Hameed et al., 2026) | nothing |
# | $\tau_n^T \tau_n \,/\, \|\tau_n\|_F^2$ | WUDI's optimum (Cheng et al., 2025) | nothing |
# | the same of $\tau_n$'s larger half of entries only | TACT (an openly logged research run, 2026, no review) | nothing |
#
# Why should $\tau_n^T \tau_n$ know the inputs? A linear layer's gradient is (error) x (input)$^T$: under plain gradient
# descent every row of $\tau_n$ *is* a mixture of inputs that expert $n$ was trained on. Our experts were trained by
# Adam, which divides each entry by a number of its own, so for them it is an approximation. Check it: record what
# enters one layer of each expert, and compare the Grams.

# %%
def recorded(task, theta, names, n=50):
    """name of a module -> the Gram (in, in) of what enters it, on n training images of a task: no labels."""
    grams = {}

    def record(name):
        def hook(module, args, output):
            x = args[0].flatten(0, -2).double()
            grams[name] = grams.get(name, 0) + x.T @ x

        return hook

    modules = dict(suite.visual.named_modules())
    handles = [modules[name].register_forward_hook(record(name)) for name in names]
    suite.encode(theta, suite.images(task, "train", n)[0])
    for handle in handles:
        handle.remove()
    return grams


# %%
blocks = range(len(suite.visual.transformer.resblocks))
layers = {f"transformer.resblocks.{i}.{name}": f"transformer.resblocks.{i}.{weight}" for i in blocks
          for name, weight in (("attn", "attn.in_proj_weight"), ("mlp.c_fc", "mlp.c_fc.weight"),
                               ("mlp.c_proj", "mlp.c_proj.weight"))}  # fmt: skip
seen = [recorded(task, suite.experts[task], layers) for task in tasks]
grams = [{weight: seen_n[name] for name, weight in layers.items()} for seen_n in seen]

middle = f"transformer.resblocks.{len(blocks) // 2}.mlp.c_fc.weight"
real = torch.stack([g[middle] for g in grams]).flatten(1)
stand_in = torch.stack([t[middle].double().T @ t[middle].double() for t in taus]).flatten(1)
real, stand_in = real - real.mean(dim=0), stand_in - stand_in.mean(dim=0)  # what all tasks share tells nobody apart
table = torch.nn.functional.normalize(real, dim=1) @ torch.nn.functional.normalize(stand_in, dim=1).T
se.figure(*plots.alike(table, tasks))
se.show("09.own_gram", table.diagonal().mean(), "cosine of a stand-in with its own inputs", unit="", digits=2, slack=0.05)
right = (table.argmax(dim=1) == torch.arange(N)).sum()
se.show("09.recognised", right, f"tasks of {N} whose own stand-in is the nearest", unit="", digits=0, slack=2)
se.claim("09.rows_know_their_inputs", by=table.diagonal().mean() - table.mean(), at_least=0.15, unit="")

# %% [markdown]
# (What all tasks have in common was taken off first: it is large, and it tells no task from another.) As far as the
# diagonal stands out, the task vectors know their inputs.
#
# ### Whose wish counts how much?
#
# $C_n$ is also a weight. With ACTMat an expert that moved twice as far has four times the say in every direction; WUDI
# divides the length out. Which is fairer? Before you look at accuracies, write the second kind.

# %%
# EXERCISE 09.6

# %%
from samerge_edu.least_squares import least_squares, stand_ins
from samerge_edu.merges.actmat import actmat
from samerge_edu.merges.regmean import regmean
from samerge_edu.merges.tact import tact
from samerge_edu.merges.wudi import wudi, wudi_flow, wudi_optimum

mine = solve(torch.stack([t[key] for t in taus]).double(), fair_grams(torch.stack([t[key] for t in taus]).double()))
print("exercises 09.5 and 09.6 together are WUDI's optimum:", torch.allclose(mine.float(), wudi_optimum(taus)[key], atol=1e-4))
lengths = torch.tensor([sum(t[k].square().sum() for k in keys).sqrt() for t in taus])
print("longest expert:", tasks[lengths.argmax()], " shortest:", tasks[lengths.argmin()])
enter("RegMean, 50 images a task", regmean(taus, grams), 1.0)
enter("ACTMat", actmat(taus), 1.0)
enter("WUDI, blocks", wudi_optimum(taus), 1.0)
enter("WUDI, every matrix", wudi_optimum(taus, scope="matrices"), 1.0)
enter("TACT", tact(taus), 1.0)

# %% [markdown]
# All five at $\lambda = 1$: nothing was tuned, and nothing has to be, since the update answers each expert's inputs at
# their full strength. (RegMean's row has Grams for three of the four kinds of block matrices, since no hook sees what
# enters the attention's output projection; the rest is the mean.)

# %%
family = ["sum", "both (TSV-M)", "Iso-CTS", *list(results)[-5:]]
se.figure(*plots.ranked(results, family))
gap = results["ACTMat"]["worst"] - results["WUDI, every matrix"]["worst"]
se.show("09.worst_gap", gap, "worst task, ACTMat minus WUDI on every matrix", unit="points", slack=6)
gap = results["ACTMat"]["ID"] - results["both (TSV-M)"]["ID"]
se.show("09.average_gap", gap, "ID average, ACTMat minus TSV-M", unit="points", slack=3)
gap = results["ACTMat"]["worst"] - results["both (TSV-M)"]["worst"]
se.show("09.worst_gap_tsv", gap, "worst task, ACTMat minus TSV-M", unit="points", slack=6)
print("the worst task of TSV-M is", tasks[both.index(min(both))])
se.claim("09.length_is_heard", by=results["ACTMat"]["worst"] - results["WUDI, every matrix"]["worst"], at_least=2)
se.claim("09.averages_hide", by=gap, at_least=4)
se.claim("09.regmean_is_behind", by=results["ACTMat"]["ID"] - results["RegMean, 50 images a task"]["ID"], at_least=3)

# %% [markdown]
# Read the bars, then the triangles. On the average, TSV-M, Iso-CTS and the best of the family are about as far apart as
# our noise. The worst task tells them apart: the hardest task moved its expert farthest, and where length counts it is
# heard. **An average over tasks hides who pays.** Whether length *should* count is a question about your tasks, not
# about algebra: an expert can also be long because it was trained for too long.
#
# And RegMean, which saw real inputs, is behind those that guessed them. One reason is in the formula. Task $n$'s inputs
# also go in directions in which expert $n$ learned nothing: $\tau_n x = 0$. For RegMean that is a wish like any other,
# "answer nothing here", and it holds the others back; $\tau_n^T \tau_n$ has no such wishes. The stand-in is less than
# the inputs, and more: it knows where its expert moved.

# %%
# QUIZ 09.q2

# %% [markdown]
# ### What do the other tensors do?
#
# Biases, LayerNorms, embeddings have no $C_n$. The authors of WUDI leave them at the base, FusionBench averages them,
# Task Arithmetic would add them. ACTMat above took the mean; here it is with the other two:

# %%
in_blocks = stand_ins(taus, lambda tau: tau.mT @ tau, block_weight)
for rest in ("sum", "base"):
    enter(f"ACTMat, the rest: {rest}", least_squares(taus, in_blocks, rest=rest), 1.0)
se.claim("09.the_rest_matters", by=results["ACTMat"]["ID"] - results["ACTMat, the rest: sum"]["ID"], at_least=20)

# %% [markdown]
# Four per cent of the parameters: added, they ruin the model; left out, they cost points. A comparison of two methods
# that differ in this detail as well compares nothing. (That is why the leaderboard has WUDI twice, for two scopes.)
#
# ### Lower loss, better model?
#
# WUDI's authors do not solve the problem; they take 300 Adam steps of length 1e-5 from the plain sum. `wudi_flow` is
# gradient descent in infinitely small steps, in closed form: time 0 is the sum, infinity the optimum. Put loss and
# accuracy side by side.

# %%
import math


def wudi_loss(tau_m):
    """The objective, summed over all block matrices."""
    per_expert = [[((tau_m[k] - t[k]) @ t[k].T).square().sum() / t[k].square().sum() for k in keys] for t in taus]
    return float(sum(sum(losses) for losses in per_expert))


def tried(tau_m, label):
    return wudi_loss(tau_m), id_average(suite, se.add(theta_0, tau_m), "val", 50), label


# %%
adam = [tried(wudi(taus, steps=s), f"{s} steps") for s in (0, 300)]
flow = [tried(wudi_flow(taus, time=t), f"time {t:g}") for t in (0.3, 3.0, math.inf)]
se.figure(*plots.loss_accuracy({"Adam, lr 1e-5": adam, "the flow": flow}))
se.show("09.adam_300", adam[-1][1], "300 Adam steps at 1e-5, ID validation", slack=3)
se.show("09.optimum", flow[-1][1], "the exact optimum, ID validation", slack=3)
se.show("09.loss_left", 100 * flow[-1][0] / adam[-1][0], "loss of the optimum, as a share of Adam's", slack=3)
se.claim("09.the_optimum_is_no_worse", by=flow[-1][1] - max(y for _, y, _ in flow), at_least=-2)
largest = max(t[k].abs().max().item() for t in taus for k in keys)
se.show("09.largest", largest, "largest entry; 300 steps of 1e-5 move 0.003 at most", unit="", digits=3, slack=0.005)

# %% [markdown]
# **The unit.** Adam's step has a fixed length, the learning rate, however large the weights are. On ViT-B/32, whose
# task vectors are small, 300 steps of 1e-5 get far; on a model with larger entries the same setting stays near the
# sum, and at $\lambda = 1$ the sum is bad. With another size of weights it is another method. The closed form has no
# unit.
#
# **The optimum.** In the *loss* an expert's weak directions hardly count. In the *optimum* they count like the strong
# ones: a direction that one expert alone has is fitted fully, however weak, for nobody objects. The flow learns a
# direction of strength $c$ (an eigenvalue of $\sum_n C_n$) by about time $1/c$, the strong ones first; stopping early
# is a filter. Wei et al. (2026, arXiv:2606.07289) report that on CLIP's ViTs the optimum is worse than stopping early;
# TACT trims for the same reason. The figure says what holds for our experts. A loss that never saw an image cannot
# tell the two cases apart; a validation set can.
#
# One number of experts deserves a warning. N experts with `out` rows are N · out equations for `in` unknowns. Where these
# are as many, least squares fits everything exactly, by an enormous update: `c_proj` of a ViT, 4 times as wide as it is
# high, at four experts. The library warns; notebook 11 measures it (`11.wudi_breaks_at_four`).

# %%
# QUIZ 09.q3

# %% [markdown]
# ## Box: a filter that sees the order of the neurons
#
# FR (of FREE-Merging, Zheng and Wang, 2025) Fourier-transforms each matrix of a task vector and removes its lowest
# frequencies. A frequency compares an entry with its neighbours. But the neurons of an MLP have no order: put the rows
# of `c_fc` into another order, and the columns of `c_proj` into the same one, and the network computes exactly what it
# did. A merge that knows what it does must not notice.

# %%
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.transforms.free_fr import free_fr

order = torch.randperm(theta_0[key].shape[0], generator=torch.Generator().manual_seed(0))


def shuffled(t):
    """The hidden neurons of every MLP in another order: the same function."""
    rows = {k: v[order] for k, v in t.items() if ".mlp.c_fc." in k}
    return dict(t) | rows | {k: v[:, order] for k, v in t.items() if k.endswith("mlp.c_proj.weight")}


for name, merge in {"TSV-M": tsv_m, "ACTMat": actmat, "FR + sum": se.pipe(free_fr, task_arithmetic)}.items():
    straight, detour = shuffled(merge(taus)), merge([shuffled(t) for t in taus])
    off = (se.flatten(straight) - se.flatten(detour)).norm() / se.flatten(straight).norm()
    slug = "".join(c if c.isalnum() else "_" for c in name)
    se.show(f"09.shuffled_{slug}", 100 * off, f"{name}: change by another order of the neurons", slack=2)
se.claim("09.fr_sees_the_order", by=100 * off, at_least=50, unit="%")

# %%
# QUIZ 09.q4

# %% [markdown]
# ## All of them on one page

# %% tags=["nbval-ignore-output"]
print(f"{'':28}  lam    ID  worst   OOD")
for m, row in sorted(results.items(), key=lambda item: -item[1]["ID"]):
    print(f"{m:28} {row['lam']:4}  {row['ID']:4.1f}   {row['worst']:4.1f}  {row['OOD']:4.1f}")

# %% [markdown]
# Compare with the page at the end of notebook 02. On ViT-B/32 the published order is sum < TIES < Iso-C and TSV-M <
# WUDI: methods that see directions beat those that see entries. Which part of it holds here, by more than two points?

# %%
# OPEN 09.open

# %% [markdown]
# ## What to remember
#
# * A matrix update is a list of wires, $S_i u_i v_i^T$. One expert disturbs another where their inputs overlap; the
#   outputs decide onto what the disturbance falls.
# * Whitening moves all directions a little until none overlap; Gram-Schmidt makes the last expert pay. The measure that
#   motivates it is 0 too early: test a measure as you test a method.
# * RegMean, ACTMat, WUDI and TACT are one least-squares problem with four Gram matrices. The Gram says which inputs
#   matter *and* how much each expert counts.
# * Look at the worst task: averages tie where tasks do not.
# * What happens to the tensors that a paper does not talk about can be worth as much as the method.
#
# ## Further reading
#
# * Gargiulo et al., *Task singular vectors* (TSV-M, the interference measure), arXiv:2412.00081
# * Marczak et al., *No task left behind* (Iso-C, Iso-CTS), arXiv:2502.04959
# * Jin et al., *Dataless knowledge fusion* (RegMean), arXiv:2212.09849
# * Cheng et al., *Whoever started the interference should end it* (WUDI), arXiv:2503.08099; Wei et al., on stopping it
#   early, arXiv:2606.07289
# * Hameed et al., *Model merging via data-free covariance estimation* (ACTMat), arXiv:2604.01329
# * Li et al., *When shared knowledge hurts* (SVC: singular values turned down after any merge), arXiv:2602.05536
# * Zheng and Wang, *FREE-Merging* (FR), arXiv:2411.16815
#
# ## Claims
#
# | claim | status |
# |---|---|
# | An eighth of the directions carries most of an expert | measured here: `09.an_eighth_carries` |
# | Whitening the directions of cut experts helps | measured here: `09.whitening_helps`; paper, arXiv:2412.00081 |
# | The interference measure predicts accuracy | **does not hold**, measured here: `09.measure_fails` |
# | The sum's spectrum is too steep | measured here: `09.the_sum_is_too_steep`; paper, arXiv:2502.04959 |
# | Exactly flat is the best shape | open; the differences measured here are noise: `09.flat_is_not_settled` |
# | The rows of a task vector know the layer's inputs | measured here, one layer: `09.rows_know_their_inputs` |
# | Length counts for the worst task (ACTMat against WUDI) | measured here, one suite: `09.length_is_heard` |
# | Averages tie where worst tasks do not (ACTMat, TSV-M) | measured here: `09.averages_hide` |
# | Real inputs make a better Gram than stand-ins | **not here** (50 images, 3 of 4 kinds of matrix), measured here: `09.regmean_is_behind` |
# | The tensors without a Gram matter | measured here: `09.the_rest_matters` |
# | WUDI's exact optimum is a worse model than an early stop | arXiv:2606.07289 for CLIP's ViTs; **not here**, measured here: `09.the_optimum_is_no_worse` |
# | FR's result depends on the order of the neurons | measured here: `09.fr_sees_the_order` |
# | WUDI 85.2, Iso-C 84.1, TIES 72.4 on ViT-B/32 (experts of Task Arithmetic) | WUDI's repository, Iso's Table 4 |
# | ACTMat 82.9 on ViT-B/32 | its repository, experts of its own; comparable with nothing above |
# | TACT beats ACTMat by 2.3 on ViT-B/32 | its log, own experts of seven tasks; a tie here within noise |
# | The order of the spectral methods is the same on every suite | open |
