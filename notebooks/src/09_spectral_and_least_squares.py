# %% [markdown]
# # 09 Spectral methods and least squares: merge directions, not entries
#
# **You will be able to**
#
# * read the update of a matrix by its singular values, and cut it to the directions that carry it;
# * measure when two experts' directions interfere, and remove that by whitening (TSV-M);
# * flatten a spectrum (Iso-C), reserve directions for each expert (Iso-CTS), and test whether flat is best;
# * derive WUDI's objective, solve it in one line, and find out whether a lower loss makes a better model;
# * catch a method that depends on the order of the neurons (FREE's filter).
#
# **Needs** notebooks 01 and 02. **Minutes** 40 to read, 50 for the exercises; runs in about a minute on two cores
# (pocket suite). On Colab: File, Save a copy in Drive, before you start.

# %%
import inspect
from functools import cache
from statistics import mean

import matplotlib.pyplot as plt

from samerge_edu import plots
from samerge_edu.evaluate import accuracy, choose_lam, h_score, id_average, scores
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


r = min(len(svd[k][1][0]) for k in keys)  # the rank of the smallest matrix
ranks = sorted({1, r // 32, r // 16, r // 8, r // 4, r // 2, r})
own = [own_accuracy(cut(k)) for k in ranks]

# %%
key = next(k for k in keys if k.endswith("mlp.c_fc.weight"))
S = svd[key][1]
noise = torch.randn(theta_0[key].shape, generator=torch.Generator().manual_seed(0))
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2))
for n, line in enumerate(S):
    left.plot(line / line.norm(), color=plots.COLOURS[0], linewidth=1, marker="", label="experts" if n == 0 else None)
left.plot(torch.linalg.svdvals(noise) / noise.norm(), color="black", marker="", label="random numbers")
left.set(xlabel="direction i", ylabel="strength, share of the length")
left.legend()
right.plot(ranks, own)
right.set(xscale="log", xlabel="directions kept in each matrix", ylabel="accuracy on the own task (%)")
right.set_xticks(ranks, ranks)
at = ranks.index(r // 8)
sentence = f"With {r // 8} of {r} directions in each matrix an expert reaches {own[at]:.0f} % on its own task, "
sentence += f"with all of them {own[-1]:.0f} %."
se.figure(plots.titled(fig, sentence), sentence)
se.show("09.rank_eighth", own[at], "own task, an eighth of the directions", slack=3)

# %%
energy = (S[:, : r // 8].square().sum(dim=1) / S.square().sum(dim=1)).mean()
by_chance = torch.linalg.svdvals(noise)[: r // 8].square().sum() / noise.square().sum()
se.show("09.energy_eighth", 100 * energy, "squared length in an eighth of the directions", slack=2)
se.show("09.energy_eighth_random", 100 * by_chance, "... of random numbers", slack=2)

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
# The second term is the disturbance. It needs both: inputs that overlap ($v_2 \cdot v_1 \ne 0$), and, to be mistaken
# for expert 1's own answer, outputs that overlap ($u_2 \cdot u_1 \ne 0$). By hand: $v_1 = (1, 0)$, $v_2 = (0.6, 0.8)$
# and the same for the outputs, strengths 2 and 1.

# %%
u_1, u_2 = torch.tensor([1.0, 0.0]), torch.tensor([0.6, 0.8])
v_1, v_2 = u_1, u_2
tau_m = 2 * torch.outer(u_1, v_1) + 1 * torch.outer(u_2, v_2)
answer = tau_m @ v_1
print("wanted", (2 * u_1).tolist(), "got", [round(x, 2) for x in answer.tolist()])
print(f"along u_1: {answer @ u_1:.2f} instead of 2: 18 % too loud, and something beside it")

# %% [markdown]
# TSV-M's authors put this into one number. Write the kept directions of all experts side by side,
# $U = [U_1 \dots U_N]$, $V = [V_1 \dots V_N]$, and $S$ for all strengths.
# Were all directions orthogonal, $U^T U$ and $V^T V$ would be
# identities.

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

# %%
# QUIZ 09.q1

# %% [markdown]
# ## Whitening: turn all directions a little
#
# If the columns of $U$ overlap, replace them by the nearest ones that do not:
# $U_\perp = \arg\min_Q \|Q - U\|_F$ with $Q^T Q = I$. With $U = P\,\mathrm{diag}(D)\,Q^T$ the answer is $P Q^T$ (the
# orthogonal Procrustes problem). The same as $U (U^T U)^{-1/2}$: that is why it is called whitening.

# %%
# EXERCISE 09.3

# %%
pair = torch.stack([torch.tensor([0.98, -0.2]), torch.tensor([0.64, 0.77])], dim=1)
fig, axes = plt.subplots(1, 3, figsize=(7, 2.7))
Q, R = torch.linalg.qr(pair)
versions = {"two directions": pair, "Gram-Schmidt": Q * R.diagonal().sign(), "whitened": orthonormalise(pair)}
for ax, (name, X) in zip(axes, versions.items(), strict=True):
    for i, colour in enumerate(plots.COLOURS[:2]):
        ax.arrow(0, 0, *pair[:, i].tolist(), color="0.8", width=0.01, length_includes_head=True)
        ax.arrow(0, 0, *X[:, i].tolist(), color=colour, width=0.02, length_includes_head=True)
    ax.set(xlim=(-0.6, 1.3), ylim=(-0.8, 1.1), aspect="equal", title=name)
turned = {n: [(X[:, i] @ pair[:, i]).clamp(-1, 1).acos().rad2deg().item() for i in (0, 1)] for n, X in versions.items()}
sentence = "Gram-Schmidt turns the directions by " + " and ".join(f"{a:.0f}" for a in turned["Gram-Schmidt"])
sentence += " degrees, whitening by " + " and ".join(f"{a:.0f}" for a in turned["whitened"]) + ": nobody is preferred."
se.figure(plots.titled(fig, sentence), sentence)

# %% [markdown]
# TSV-M is now three lines: cut each expert to $k = \lfloor r / N \rfloor$ directions, put them side by side, whiten
# both sides. Here they are beside the library's version.

# %%
from samerge_edu.merges.tsv_m import tsv_m

source = inspect.getsource(tsv_m)
print(source[source.rindex('"""') + 4 :])
U, S, V = side_by_side(key, r // N)
mine = orthonormalise(U) * S @ orthonormalise(V).T
difference = (tsv_m(taus)[key] - mine).norm() / mine.norm()
print("three lines and the library agree:", bool(difference < 1e-3))

# %% [markdown]
# ### Does whitening help, and which side of it?
#
# Take the steps apart, as with TIES: cut and add without whitening; whiten only the outputs, only the inputs, both; and
# Gram-Schmidt, which makes the directions just as orthogonal but lets the first expert keep its place and the last one
# pay. Everything outside the block matrices is the plain mean in all of them. Each at its own scale from validation (50
# images a task; test: 100 a task, so **differences of two points are noise here**).

# %%
GRID = [0.18, 0.32, 0.56, 1.0, 1.8, 3.2]
results = {}


def enter(name, tau_m, lam_paper):
    """Test accuracy (ID, OOD) of a merge at the scale chosen on validation, and ID at the paper's scale."""
    lam, _ = choose_lam(suite, tau_m, GRID, n=50)
    chosen = scores(suite, se.add(theta_0, tau_m, lam), n=100)
    at_home, abroad = mean(chosen[t] for t in tasks), mean(chosen[t] for t in suite.ood_tasks)
    published = id_average(suite, se.add(theta_0, tau_m, lam_paper), "test", 100)
    results[name] = {"lam": lam, "ID": at_home, "OOD": abroad, "paper lam": lam_paper, "paper ID": published}
    results[name]["by task"] = [chosen[t] for t in tasks]
    slug = "".join(c if c.isalnum() else "_" for c in name)
    se.show(f"09.{slug}", at_home, f"{name}: ID on test, lam from validation", slack=3)
    se.show(f"09.{slug}.paper", published, f"{'':{len(name)}}  ... at lam {lam_paper}", slack=3)


def merged_directions(k, outputs, inputs):
    """Cut to k directions an expert, then outputs(U) and inputs(V) side by side; all other tensors: the mean."""
    tau_m = {name: sum(t[name] for t in taus) / N for name in theta_0}
    for name in keys:
        U, S, V = side_by_side(name, k)
        tau_m[name] = outputs(U) * S @ inputs(V).T
    return tau_m


# %%
def as_they_are(X):
    return X


def gram_schmidt(X):
    Q, R = torch.linalg.qr(X)
    return Q * R.diagonal().sign()


most = r // N
tau_sum = {k: sum(t[k] for t in taus) for k in theta_0}
enter("sum", tau_sum, 0.3)
enter("cut, not whitened", merged_directions(most, as_they_are, as_they_are), 1.0)
enter("outputs whitened", merged_directions(most, nearest_orthonormal, as_they_are), 1.0)
enter("inputs whitened", merged_directions(most, as_they_are, nearest_orthonormal), 1.0)
enter("both (TSV-M)", merged_directions(most, nearest_orthonormal, nearest_orthonormal), 1.0)
enter("Gram-Schmidt", merged_directions(most, gram_schmidt, gram_schmidt), 1.0)


# %%
def bars(names):
    """ID test accuracy of some rows, filled at the validated scale, diamonds at the published one."""
    fig, ax = plt.subplots(figsize=(6.5, 0.4 * len(names) + 1.2))
    for y, name in enumerate(reversed(names)):
        row = results[name]
        ax.barh(y, row["ID"], color=plots.COLOURS[0], height=0.6)
        ax.plot(row["paper ID"], y, marker="D", color="black", markerfacecolor="white", linestyle="")
        ax.text(max(row["ID"], row["paper ID"]) + 1.5, y - 0.1, f"lam {row['lam']}", fontsize=9)
    ax.set(xlabel="ID accuracy on test (%); diamond: at the published scale")
    ax.set_yticks(range(len(names)), list(reversed(names)))
    ax.grid(axis="y", visible=False)
    return fig


# %%
steps = ["sum", "cut, not whitened", "outputs whitened", "inputs whitened", "both (TSV-M)", "Gram-Schmidt"]
gain = results["both (TSV-M)"]["ID"] - results["cut, not whitened"]["ID"]
sentence = f"Whitening both sides changes the cut experts' sum by {gain:+.1f} points, "
sentence += f"cutting without it the plain sum by {results['cut, not whitened']['ID'] - results['sum']['ID']:+.1f}."
se.figure(plots.titled(bars(steps), sentence), sentence)
both, in_turn = results["both (TSV-M)"]["by task"], results["Gram-Schmidt"]["by task"]
cost = [a - b for a, b in zip(both, in_turn, strict=True)]
se.show("09.first", mean(cost[: N // 2]), "Gram-Schmidt costs the first half of the experts", unit="points", slack=3)
se.show("09.last", mean(cost[N // 2 :]), "... and the last half", unit="points", slack=3)

# %% [markdown]
# Cutting alone only throws away; whitening is what pays. Orthogonal directions alone are not enough either:
# Gram-Schmidt's are as orthogonal as TSV-M's, and the two numbers say who pays for being treated last. Whitening
# one side helps to the degree that the other side overlaps less; which side matters more is a fact about the layer:
# do two tasks share their inputs, or their answers?

# %% [markdown]
# ### Play: how many directions are kept?
#
# With whitening there is a limit: $N k \le r$, or there is no room for orthogonal directions. Without it there is none.

# %%
KEPT = sorted({1, most // 8, most // 4, most // 2, most} - {0})
SCALES = [0.3, 0.6, 1.0, 1.7]


@cache
def reached(k, whiten):
    """ID validation accuracy at each scale."""
    turn = nearest_orthonormal if whiten else as_they_are
    tau_m = merged_directions(k, turn, turn)
    return [id_average(suite, se.add(theta_0, tau_m, lam), "val", 50) for lam in SCALES]


# %%
def draw(k, whiten):
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2))
    for choice, label in ((True, "whitened"), (False, "not whitened")):
        left.plot(KEPT, [max(reached(j, choice)) for j in KEPT], label=label)
    left.plot([k], [max(reached(k, whiten))], color=plots.COLOURS[2], markersize=10, linestyle="")
    left.set(xlabel="directions kept of each expert", ylabel="ID accuracy (%), validation, best lam")
    left.legend(fontsize=8)
    right.plot(SCALES, reached(k, whiten), color=plots.COLOURS[2])
    right.set(xlabel="scale lam", ylabel="ID accuracy (%), validation", title=f"k = {k}")
    U, S, V = side_by_side(key, k)
    before = interference(U, S, V) / S.sum().item()
    sentence = f"{k} directions of each expert, {'whitened' if whiten else 'not whitened'}: "
    sentence += f"{max(reached(k, whiten)):.1f} %. Before whitening, interference is {before:.1f} a unit of strength."
    return plots.titled(fig, sentence), sentence


se.explore(draw, [{"k": most, "whiten": True}, {"k": 1, "whiten": False}], k=KEPT, whiten=[True, False])

# %% [markdown]
# ### The same model, written down differently
#
# open_clip keeps q, k and v of an attention layer in one matrix of $3d$ rows, Hugging Face in three. It is the same
# network, but not the same SVD. A method on matrices has to say which one it means.


# %%
def split_qkv(t):
    """Each in_proj_weight as three matrices."""
    parts = {k: v for k, v in t.items() if not k.endswith("in_proj_weight")}
    for k in t.keys() - parts.keys():
        parts |= {f"{k}.{name}": block for name, block in zip("qkv", t[k].chunk(3), strict=True)}
    return parts


def join_qkv(t):
    whole = {k: v for k, v in t.items() if not k.endswith(("weight.q", "weight.k", "weight.v"))}
    return {k: whole[k] if k in whole else torch.cat([t[f"{k}.{name}"] for name in "qkv"]) for k in theta_0}


enter("TSV-M", tsv_m(taus), 1.0)
enter("TSV-M, q k v apart", join_qkv(tsv_m([split_qkv(t) for t in taus])), 1.0)

# %% [markdown]
# ## Iso-C: the same strength for every direction
#
# Iso (Marczak et al., 2025) starts from the sum and looks at its spectrum. A few directions, those that many experts
# share, are much stronger than all others; the experts whose directions are weak are drowned. So give all directions
# one strength, the mean $\sigma$.

# %%
# EXERCISE 09.4

# %%
from samerge_edu.merges.iso import iso_c, iso_cts

U, S, Vt = torch.linalg.svd(tau_sum[key], full_matrices=False)
heard = []  # of each expert: how much of its length lies in the strongest eighth of the sum's directions
for t in taus:
    heard.append(100 * ((U[:, :most].T @ t[key]).square().sum() / t[key].square().sum()).item())
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2))
left.plot(S, marker="", label="sum of the experts")
left.axhline(S.mean(), color=plots.COLOURS[1], linestyle="--", marker="", label="Iso-C")
left.set(xlabel="direction i of the sum", ylabel="strength")
left.legend()
right.barh(tasks, heard, color=plots.COLOURS[0])
right.set(xlabel=f"length^2 inside the {most} strongest\ndirections of the sum (%)")
right.invert_yaxis()
sentence = f"The sum's strongest direction is {S[0] / S.mean():.1f} times the mean; its first {most} of {len(S)} "
sentence += f"hold between {min(heard):.0f} % ({tasks[heard.index(min(heard))]}) and {max(heard):.0f} % of an expert."
se.figure(plots.titled(fig, sentence), sentence)

# %% [markdown]
# Iso-CTS keeps 80 % of the directions from the sum (*common*) and gives the rest to the experts: what of each expert
# lies outside the common ones, a few directions each, whitened together (*task-specific*), and then one strength for
# all. Both papers' scales come from validation data: 1.3 and 1.5 for 8 tasks on ViT-B/32.
#
# But is *flat* the best shape? A knob that the paper does not have answers it: raise each singular value to a power
# $\gamma$, at an equal mean. $\gamma = 1$ is the sum, $\gamma = 0$ is Iso-C, $\gamma < 0$ turns the spectrum round.


# %%
def bent(gamma):
    """The sum, its singular values S^gamma at the old mean; other tensors: the mean, as in Iso-C."""
    tau_m = {name: tau_sum[name] / N for name in theta_0}
    for name in keys:
        U, S, Vt = thin_svd(tau_sum[name])
        bent_S = (S / S.mean()).clamp(min=0.05) ** gamma  # without the floor, gamma < 0 would be all noise
        tau_m[name] = U * (bent_S * S.mean() / bent_S.mean()) @ Vt
    return tau_m


for gamma in (1.0, 0.5, -0.5):
    enter(f"sum, S^{gamma}", bent(gamma), 1.0)
enter("Iso-C", iso_c(taus), 1.3)
enter("Iso-CTS", iso_cts(taus), 1.5)

# %% tags=["nbval-ignore-output"]
shapes = ["sum, S^1.0", "sum, S^0.5", "Iso-C", "sum, S^-0.5", "Iso-CTS"]
best = max(shapes[:4], key=lambda name: results[name]["ID"])
sentence = f"Of the four shapes of the sum's spectrum, {best} is best with {results[best]['ID']:.1f} %; "
sentence += f"Iso-C, the flat one, has {results['Iso-C']['ID']:.1f} %."
se.figure(plots.titled(bars(shapes), sentence), sentence)

# %% [markdown]
# "sum, S^1.0" is the plain sum in the block matrices; it differs from Task Arithmetic only in that everything else
# (biases, LayerNorm, embeddings) is the mean, which is $N$ times smaller.

# %% [markdown]
# ## WUDI: the least disturbance
#
# What should the merged update do to the inputs of expert $n$? The same as expert $n$'s own: $\tau_m x = \tau_n x$ for
# the inputs $x$ of task $n$. WUDI (Cheng et al., 2025) has no data, and no $x$. But a linear layer's gradient is
# (error) x (input)$^T$, so every row of $\tau_n$ is a mixture of inputs that expert $n$ was trained on. Let the rows
# stand in for the inputs:
#
# $$\mathcal{L}(\tau_m) = \sum_n \frac{\|(\tau_m - \tau_n)\, \tau_n^T\|_F^2}{\|\tau_n\|_F^2}$$
#
# That is an assumption about real networks, so check it. Feed images of task $n$, record what enters one layer of
# expert $n$, and ask how much of it lies in the strongest input directions of each expert's $\tau$.


# %%
def inputs_of(task, theta, layer):
    """(images * tokens, in): what enters a linear layer."""
    seen = []
    handle = layer.register_forward_hook(lambda module, args, output: seen.append(args[0].flatten(0, -2).float()))
    suite.encode(theta, suite.images(task, "val", 50)[0])
    handle.remove()
    X = torch.cat(seen)
    return X - X.mean(dim=0)


block = len(suite.visual.transformer.resblocks) // 2
name = f"transformer.resblocks.{block}.mlp.c_fc.weight"
layer = suite.visual.transformer.resblocks[block].mlp.c_fc
V = svd[name][2][:, :most]  # (N, k, in): the strongest input directions of each expert
table = torch.zeros(N, N)
for n, task in enumerate(tasks):
    X = inputs_of(task, suite.experts[task], layer)
    table[n] = 100 * (X @ V.mT).square().sum(dim=(1, 2)) / X.square().sum()

# %%
fig, ax = plt.subplots(figsize=(6, 4.6))
image = ax.imshow(table.numpy(), cmap="viridis")
fig.colorbar(image, label="share of the inputs' variance (%)")
ax.set_xticks(range(N), tasks, rotation=40, ha="right")
ax.set_yticks(range(N), tasks)
ax.set(xlabel=f"in the {most} strongest input directions of expert ...", ylabel="inputs of task ...")
ax.grid(visible=False)
own_share = table.diagonal().mean().item()
others = ((table.sum() - table.diagonal().sum()) / (N * N - N)).item()
dimension = 100 * most / V.shape[-1]
sentence = f"An expert's own directions hold {own_share:.0f} % of its inputs' variance, another expert's "
sentence += f"{others:.0f} %, random ones would hold {dimension:.0f} %."
se.figure(plots.titled(fig, sentence), sentence)
se.show("09.proxy_own", own_share, "inputs inside the own expert's directions", slack=2)
se.show("09.proxy_others", others, "inputs inside another expert's directions", slack=2)

# %% [markdown]
# The stand-in is good as far as the first number exceeds the third (the rows do know the inputs) **and** the second
# (they know *their* inputs, not just what all tasks have in common).
#
# ### The optimum in one line
#
# $\mathcal{L}$ is quadratic in $\tau_m$. With $C_n = \tau_n^T \tau_n / \|\tau_n\|_F^2$ its gradient is
# $2 \sum_n (\tau_m - \tau_n)\, C_n$. Where that is zero, we are done.

# %%
# EXERCISE 09.5

# %% [markdown]
# The authors take another way: Adam, 300 steps at learning rate 1e-5, from the plain sum. Put both side by side, with
# the loss and with what the loss is only a stand-in for. `wudi_flow` is the third way: gradient descent in infinitely
# small steps, which also has a closed form. Its `time` says how long; time 0 is the sum, infinity the optimum.

# %%
import math

from samerge_edu.merges.wudi import wudi, wudi_flow


def wudi_loss(tau_m):
    """The objective, summed over all block matrices."""
    per_expert = [[((tau_m[k] - t[k]) @ t[k].T).square().sum() / t[k].square().sum() for k in keys] for t in taus]
    return float(sum(sum(losses) for losses in per_expert))


def tried(tau_m):
    return wudi_loss(tau_m), id_average(suite, se.add(theta_0, tau_m), "val", 50)


STEPS, TIMES = [0, 100, 300], [0.3, 1.0, 3.0, 10.0, math.inf]
by_adam, by_larger_steps = {s: wudi(taus, steps=s) for s in STEPS}, wudi(taus, steps=300, lr=1e-4)
adam = [tried(t) for t in by_adam.values()]
flow = [tried(wudi_flow(taus, time=t)) for t in TIMES]

# %%
fig, ax = plt.subplots(figsize=(6.8, 3.8))
for label, points, names in (
    ("Adam, lr 1e-5 (label: steps)", adam, STEPS),
    ("Adam, lr 1e-4", [tried(by_larger_steps)], [300]),
    ("flow (label: time)", flow, TIMES),
):
    ax.plot(*zip(*points, strict=True), label=label)
    for (x, y), text in zip(points, names, strict=True):
        ax.annotate(f"{text:g}", (x, y), (3, 4), textcoords="offset points", fontsize=8)
ax.set(xlabel="WUDI's loss (log scale)", ylabel="ID accuracy (%), validation", xscale="log")
ax.invert_xaxis()
ax.legend(fontsize=8)
(loss_300, acc_300), (loss_best, acc_best) = adam[-1], flow[-1]
sentence = f"300 Adam steps: loss {loss_300:.3g}, {acc_300:.1f} %. The exact optimum: loss {loss_best:.3g}, "
sentence += f"{acc_best:.1f} %. The best flow has {max(acc for _, acc in flow):.1f} %."
se.figure(plots.titled(fig, sentence), sentence)
se.show("09.adam_300", acc_300, "300 Adam steps at 1e-5, ID validation", slack=3)
se.show("09.optimum", acc_best, "the exact optimum, ID validation", slack=3)
se.show("09.loss_left", 100 * loss_best / loss_300, "loss of the optimum, as a share of Adam's after 300", slack=3)

# %% [markdown]
# Read from left to right: the loss falls. Does the accuracy rise with it, up to the right end?

# %%
best_flow = max(acc for _, acc in flow)
if best_flow - acc_best > 2:
    print("Here the optimum is worse than an earlier stop: the loss is not the goal.")
else:
    print("Here the optimum is as good as any earlier stop, up to noise: go all the way.")
print("Adam's step is too short here:", acc_best - acc_300 > 2)
largest = max(t[k].abs().max().item() for t in taus for k in keys)
se.show("09.largest", largest, "largest entry; 300 steps of 1e-5 move 0.003 at most", unit="", digits=3, slack=0.005)

# %% [markdown]
# Two lessons, whichever way it went.
#
# **The unit.** Adam's step has a fixed length, the learning rate, however large the weights are. On ViT-B/32, whose
# task vectors are small, 300 steps of 1e-5 get far; on a model with larger entries the same setting stays near the
# sum, and at $\lambda = 1$ the sum is bad. So "300 steps at 1e-5" is not a detail of the implementation: with another
# size of weights it is another method. The closed form, and the flow's time, have no unit.
#
# **The optimum.** It trusts every direction of the task vectors alike, also those with nearly no strength, where a row
# says little about inputs. Stopping early is a filter: the flow learns a direction with strength $c$ (an eigenvalue of
# $\sum_n C_n$) by about time $1/c$, the strong ones first. Wei et al. (2026, arXiv:2606.07289) report that on ViTs of
# CLIP the optimum is worse than stopping early, because the weak directions are mostly noise. Our experts are small and
# trained hard, and their weak directions may carry more than noise. A loss that never saw an image cannot tell the two
# cases apart; a validation set can.

# %%
# QUIZ 09.q2

# %%
flow_time = TIMES[max(range(len(TIMES)), key=lambda i: flow[i][1])]  # chosen on validation
enter("WUDI, 300 steps", by_adam[300], 1.0)
enter("WUDI, lr 1e-4", by_larger_steps, 1.0)
enter("WUDI, best time of the flow", wudi_flow(taus, time=flow_time), 1.0)
enter("WUDI, the same, every matrix", wudi_flow(taus, time=flow_time, scope="matrices"), 1.0)
enter("WUDI, the optimum", wudi_flow(taus), 1.0)

# %% [markdown]
# "every matrix" is FusionBench's scope: also embeddings, and the mean for everything else. The authors leave all of
# that at the base.

# %% [markdown]
# ## FREE's filter: do weights have frequencies?
#
# FR (the first half of FREE-Merging, Zheng and Wang, 2025) takes the two-dimensional Fourier transform of each task
# vector's matrix, removes the lowest frequencies, and transforms back. Two things to look at before believing in it.
#
# **The shape decides.** In the authors' code "low" is a distance in indices, measured against the shorter side. So the
# same setting removes nearly nothing from a square matrix and most of a long one:

# %%
from samerge_edu.transforms.free_fr import free_fr, high_pass

shapes = {tuple(theta_0[k].shape): k for k in keys}
fig, axes = plt.subplots(1, len(shapes), figsize=(7, 2.9))
removed = []
for ax, shape in zip(axes, shapes, strict=True):
    keep = high_pass(shape)
    removed.append(100 - 100 * keep.float().mean().item())
    ax.imshow(torch.fft.fftshift(keep).numpy(), cmap="Greys", aspect="auto", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[], title=f"{shape[0]} x {shape[1]}")
    ax.set_xlabel(f"{removed[-1]:.2f} % removed")
sentence = "White is removed (frequency 0 in the middle): " + ", ".join(
    f"{s[0]} x {s[1]} loses {p:.0f} %" for s, p in zip(shapes, removed, strict=True)
)
se.figure(plots.titled(fig, sentence + "."), sentence + ".")

# %% [markdown]
# **The order of the neurons decides.** A frequency compares an entry with its neighbours. But the neurons of an MLP
# have no order: put the rows of `c_fc` into another order, and the columns of `c_proj` into the same one, and the
# network computes exactly what it did. A merging method that knows what it does must not notice: merging the shuffled
# experts must give the shuffled merge.

# %%
from samerge_edu.merges.task_arithmetic import task_arithmetic

order = torch.randperm(theta_0[key].shape[0], generator=torch.Generator().manual_seed(0))


def shuffled(t):
    """The hidden neurons of every MLP in another order: the same function."""
    return {
        k: v[order] if ".mlp.c_fc." in k else v[:, order] if k.endswith("mlp.c_proj.weight") else v
        for k, v in t.items()
    }


# %%
images = suite.images(tasks[0], "val", 50)[0]
same = suite.encode(shuffled(theta_0), images) - suite.encode(theta_0, images)
print("the shuffled base computes the same:", bool(same.abs().max() < 0.01))
methods = {
    "sum": task_arithmetic,
    "TSV-M": tsv_m,
    "Iso-C": iso_c,
    "WUDI (optimum)": wudi_flow,
    "FR + sum": se.pipe(free_fr, task_arithmetic),
}
for name, merge in methods.items():
    straight, detour = shuffled(merge(taus)), merge([shuffled(t) for t in taus])
    off = (se.flatten(straight) - se.flatten(detour)).norm() / se.flatten(straight).norm()
    slug = "".join(c if c.isalnum() else "_" for c in name)
    se.show(f"09.shuffled_{slug}", 100 * off, f"{name}: change by another order of the neurons", slack=2)

# %% [markdown]
# The spectral methods move along with the new order; the Fourier filter does not: most of its result depends on an
# order that means nothing. What is its effect, then? FR also multiplies every expert until all are equally loud
# (`align`). Take that alone as a control: a filter so wide that it removes nothing.

# %%
enter("FR", task_arithmetic(free_fr(taus)), 0.7)
enter("FR, same share of each shape", task_arithmetic(free_fr(taus, metric="frequency")), 0.7)
enter("FR without its filter", task_arithmetic(free_fr(taus, radius=100.0)), 0.7)

# %% [markdown]
# With `metric="frequency"` every shape loses the same share, which at the authors' radius is nearly nothing: the row
# differs from the control by what 0.02 % of the coefficients can do. So compare "FR" with its control at the published
# scale and at its own best one. A filter that removes half of the coefficients makes the update shorter, and a shorter
# update is what a sum at 0.7 needs most; only the difference at the best scales belongs to the frequencies.

# %%
# QUIZ 09.q3

# %% [markdown]
# ## All of them on one page

# %% tags=["nbval-ignore-output"]
for row in results.values():
    row["H"] = h_score(row["ID"], row["OOD"])
page = ["sum", "TSV-M", "TSV-M, q k v apart", "Iso-C", "Iso-CTS", "FR", *(m for m in results if m.startswith("WUDI"))]
ranked = sorted(page, key=lambda name: -results[name]["ID"])
fig, axes = plt.subplots(1, 2, figsize=(7, 0.3 * len(ranked) + 1.2), sharey=True)
base = scores(suite, theta_0, n=100)
for ax, what, where, look in zip(axes, ("ID", "OOD"), (tasks, suite.ood_tasks), ("o", "s"), strict=True):
    ax.plot([results[m][what] for m in ranked], range(len(ranked)), look, linestyle="", color=plots.COLOURS[0])
    ax.axvline(mean(base[t] for t in where), color="0.5", linestyle=":", marker="")
    ax.set(xlabel=f"{what} accuracy on test (%)")
published = [results[m]["paper ID"] for m in ranked]
axes[0].plot(published, range(len(ranked)), "D", linestyle="", color="black", markerfacecolor="white", zorder=0)
axes[0].set_yticks(range(len(ranked)), ranked, fontsize=9)
axes[0].invert_yaxis()
best = ranked[0]
sentence = f"At its own best scale {best} leads with {results[best]['ID']:.1f} % ID; the plain sum has "
sentence += f"{results['sum']['ID']:.1f} %, the base (dotted) {mean(base[t] for t in tasks):.1f} %."
se.figure(plots.titled(fig, sentence), sentence)

# %% tags=["nbval-ignore-output"]
print(f"{'':30}  lam    ID   OOD     H   ID at the published lam")
for m, row in sorted(results.items(), key=lambda item: -item[1]["ID"]):
    numbers = f"{row['ID']:4.1f}  {row['OOD']:4.1f}  {row['H']:4.1f}   {row['paper ID']:4.1f} ({row['paper lam']})"
    print(f"{m:30} {row['lam']:4}  {numbers}")

# %% [markdown]
# Compare with the page at the end of notebook 02. On ViT-B/32 the published order is sum < TIES < Iso-C and TSV-M <
# WUDI: methods that see directions beat those that see entries. Which part of it holds here, by more than the noise
# of two points? And look abroad: what is the price of the best ones, against the dotted line of the base?

# %% [markdown]
# ## What to remember
#
# * A matrix update is a list of wires, $S_i u_i v_i^T$. Experts disturb each other where inputs *and* outputs overlap.
# * Whitening moves all directions a little until none overlap; Gram-Schmidt makes the last expert pay.
# * TSV-M gives each expert $r/N$ directions; Iso-C gives every direction of the sum one strength; both depend on how
#   the model is written down.
# * WUDI is least squares with the task vectors' rows as inputs. Its exact optimum is one line; 300 steps of Adam are
#   another method, whose result depends on the size of the weights.
# * A method that notices the order of the neurons has looked at something that is not there.
# * A control for each claim: random directions, Gram-Schmidt for whitening, a bent spectrum for the flat one, a filter
#   that removes nothing.
#
# ## Further reading
#
# * Gargiulo et al., *Task singular vectors* (TSV-M, the interference measure), arXiv:2412.00081
# * Marczak et al., *No task left behind* (Iso-C, Iso-CTS), arXiv:2502.04959
# * Cheng et al., *Whoever started the interference should end it* (WUDI), arXiv:2503.08099
# * Wei et al., on early stopping of WUDI and its closed form, arXiv:2606.07289
# * Zheng and Wang, *FREE-Merging* (FR), arXiv:2411.16815
# * Stoica et al., *KnOTS* (the same idea for LoRA experts, notebook 07), arXiv:2410.19735
#
# ## Claims
#
# | claim | status |
# |---|---|
# | An eighth of the directions carries most of an expert | measured here, pocket suite |
# | Whitening the directions of cut experts helps | measured here, step by step; paper, arXiv:2412.00081 |
# | A flat spectrum is the best shape | tested here with S^gamma; paper, arXiv:2502.04959, against the sum |
# | Rows of a task vector lie in the span of the layer's inputs | measured here, one layer; paper, arXiv:2503.08099 |
# | WUDI's exact optimum is a worse model than an early stop | arXiv:2606.07289, CLIP's ViTs; verdict above for pocket |
# | FR's result depends on the order of the neurons | measured here |
# | WUDI 85.2, Iso-C 84.1, TIES 72.4 on ViT-B/32 (experts of Task Arithmetic) | WUDI's repository, Iso's Table 4 |
# | TSV-M 85.9 on ViT-B/32 | Iso's Table 1, other experts (TALL), whose DTD expert saw test images |
# | FR 78.1 on ViT-B/32 | a note on arXiv:2411.16815; what its filter adds: measured here |
# | The order of the spectral methods is the same on every suite | open |
