"""How fast are the methods that look at data?  `python tests/benchmarks/bench_data.py --peer PYTHON`

Beside fusion-bench, through the calls that made its golden numbers (tests/golden/compute_data.py), on a small CLIP
tower of pocket's size (1.6 M parameters, four experts, 64 seeded images of each task), with the statistics that the
method needs: Fisher diagonals, Grams. AdaMerging takes 10 steps, as for the golden numbers.
Every run is a process of its own: seconds, CPU seconds, the largest memory that it ever held, and the largest
difference of the two results, relative to the largest entry of the tensor it is in.

PYTHON is that of an environment with fusion-bench (data_scripts/make_golden.py makes one). Without --peer: ours alone.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import torch
from bench_merges import figures, measured
from safetensors.torch import load_file, save_file
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

N, IMAGES, CLASSES, DEPTH, WIDTH, HEADS, BATCH = 4, 64, 10, 5, 160, 5, 16
TASKS = [str(n) for n in range(N)]

# ---------------------------------------------------------------------------- the problem


class Embed(nn.Module):
    """(n, 3, 32, 32) -> (n, 17, WIDTH): a class token and 16 patches."""

    def __init__(self):
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, WIDTH, 8, stride=8, bias=False), nn.LayerNorm(WIDTH)
        self.first, self.position = nn.Parameter(torch.randn(1, 1, WIDTH)), nn.Parameter(torch.randn(17, WIDTH))

    def forward(self, images):
        x = self.patch(images).flatten(start_dim=2).mT
        return self.norm(torch.cat([self.first.expand(len(x), -1, -1), x], dim=1) + self.position)


class Block(nn.Module):
    """A CLIP block with q, k and v as three nn.Linear, where fusion-bench's hooks see them."""

    def __init__(self):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        y = self.norm_1(x)
        q, k, v = (part(y).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(start_dim=2))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.resblocks = Embed(), nn.ModuleList(Block() for _ in range(DEPTH))

    def forward(self, images):
        x = self.embed(images)
        for block in self.resblocks:
            x = block(x)
        return x.mean(dim=1)


def problem():
    """(base, N experts, N sets of images, N heads of unit length), drawn from one seed."""
    torch.manual_seed(0)
    base = Tower().state_dict()
    experts = [{k: v + 0.02 * torch.randn_like(v) for k, v in base.items()} for _ in range(N)]
    images = [torch.randn(IMAGES, 3, 32, 32) for _ in range(N)]
    return base, experts, images, [F.normalize(torch.randn(CLASSES, WIDTH), dim=1) for _ in range(N)]


# ---------------------------------------------------------------------------- ours


def ours(base, experts, images, heads):
    """name -> method; imported here, because the peer's environment does not have our package."""
    from samerge_edu.adaptation.adamerging import adamerging
    from samerge_edu.merges.fisher import fisher as fisher_merge
    from samerge_edu.merges.regmean import regmean
    from samerge_edu.merges.regmean_pp import regmean_pp
    from samerge_edu.params import add, task_vectors
    from samerge_edu.statistics import fisher, input_grams

    def encode(theta, x):
        with torch.no_grad():
            return F.normalize(functional_call(visual, dict(theta), (x,)), dim=-1)

    visual, taus = Tower(), task_vectors(base, experts)
    suite = SimpleNamespace(
        theta_0=base,
        experts=dict(zip(TASKS, experts, strict=True)),
        id_tasks=TASKS,
        heads=dict(zip(TASKS, heads, strict=True)),
        device=torch.device("cpu"),
        visual=visual,
        logit_scale=5.0,
        images=lambda task, split, n: (images[int(task)][:n], torch.zeros(n, dtype=torch.long)),
        encode=encode,
    )

    def fisher_merging():  # the cheap kind, which is fusion-bench's
        measures = [fisher(suite, experts[n], TASKS[n], IMAGES, kind="batch", batch=BATCH) for n in range(N)]
        return add(base, fisher_merge(taus, measures))

    def regmean_merging():
        grams = [input_grams(suite, experts[n], TASKS[n], IMAGES) for n in range(N)]
        return add(base, regmean(taus, grams, off_diagonal=0.95))

    def grams_under(n, tau, names):
        return input_grams(suite, add(base, tau), TASKS[n], IMAGES, names=names)

    def adamerging_of(level):
        return adamerging(suite, taus, level=level, n=IMAGES, batch=IMAGES, steps=10, lr=1e-2, lam=0.3, clamp=False)

    return {
        "Fisher": fisher_merging,
        "RegMean": regmean_merging,
        "RegMean++": lambda: add(base, regmean_pp(taus, grams_under, off_diagonal=0.95)),
        "AdaMerging, by tasks": lambda: adamerging_of("task"),
        "AdaMerging, by layers": lambda: adamerging_of("layer"),
    }


# ---------------------------------------------------------------------------- theirs


def fusion_bench(*given):
    file = Path(__file__).parents[1] / "golden" / "compute_data.py"
    spec = importlib.util.spec_from_file_location("compute_data", file)
    spec.loader.exec_module(calls := importlib.util.module_from_spec(spec))
    calls.Net, calls.N, calls.IMAGES, calls.DIM, calls.BATCH = Tower, N, IMAGES, WIDTH, BATCH
    calls.NORMALISE = (True,)

    def adamerging(level):
        calls.LEVELS = (level,)
        return calls.adamerging(*given)[f"adamerging {level}"]

    return {
        "Fisher": lambda: calls.fisher(*given)["fisher merged, normalise=True"],
        "RegMean": lambda: calls.regmean(*given)["regmean merged"],
        "RegMean++": lambda: calls.regmean_pp(*given)["regmean++ merged"],
        "AdaMerging, by tasks": lambda: adamerging("task"),
        "AdaMerging, by layers": lambda: adamerging("layer"),
    }


# ---------------------------------------------------------------------------- measuring


LIBRARIES = {"ours": ours, "fusion-bench": fusion_bench}


def in_its_own_process(python, library, name, threads):
    """({seconds, cpu, peak}, result) of one method, or None where the library does not have it."""
    with tempfile.TemporaryDirectory() as out:
        call = [python, __file__, name, "--library", library, "--out", out, "--threads", str(threads)]
        subprocess.run(call, check=True)
        if not (Path(out) / "run.json").exists():
            return None
        run = json.loads((Path(out) / "run.json").read_text(encoding="utf-8"))
        return run, load_file(Path(out) / "result.safetensors")


def one_run(library, name, out):
    with contextlib.redirect_stdout(None), contextlib.redirect_stderr(open(os.devnull, "w")):
        method = LIBRARIES[library](*problem()).get(name)
        if method is None:
            return
        method()  # once unmeasured: what is imported at the first call is not the method's
        run, result = measured(method)
    (out / "run.json").write_text(json.dumps(run), encoding="utf-8")
    save_file({key: value.float().contiguous() for key, value in result.items()}, out / "result.safetensors")


def difference(a, b):
    if a.keys() != b.keys():
        raise ValueError(f"got results with different names: {sorted(a.keys() ^ b.keys())[:3]}")
    return max(((a[key] - b[key]).abs().max() / b[key].abs().max()).item() for key in a)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="which methods, by the names of the table (default: all)")
    parser.add_argument("--peer", help="the python of an environment with fusion-bench")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--library", choices=LIBRARIES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.library:
        one_run(arguments.library, arguments.names[0], arguments.out)
        return
    d = sum(value.numel() for value in problem()[0].values())
    print(f"{N} experts of {d / 1e6:.1f} M parameters, {IMAGES} images a task, {arguments.threads} threads", end=", ")
    print(f"{version('torch')=}, load {os.getloadavg()[0]:.1f}")
    print(f"{'':24}{'ours: wall, CPU, peak':>28}{'fusion-bench, ratio, difference' if arguments.peer else '':>48}")
    for name in arguments.names or ours(*problem()):
        mine, result = in_its_own_process(sys.executable, "ours", name, arguments.threads)
        line = f"{name:24}{figures(mine)}"
        if arguments.peer and (theirs := in_its_own_process(arguments.peer, "fusion-bench", name, arguments.threads)):
            line += f"{figures(theirs[0])}{theirs[0]['seconds'] / mine['seconds']:8.1f}"
            line += f"{difference(result, theirs[1]):12.1e}"
        print(line, flush=True)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
