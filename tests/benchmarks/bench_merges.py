"""How fast is each merge at the size of CLIP ViT-B/32?  `python tests/benchmarks/bench_merges.py [names] [--help]`

Eight seeded task vectors of the image tower's shapes (87.8 M parameters, 2.8 GB in all), in memory. Every run is a
process of its own: seconds (best of --repeat, 1 by default), and the largest memory it ever held, inputs included.
The floor is the time that this machine needs to read the eight and write one, measured in the same run, as is what
explains the rest: a copy of the eight, into memory that is touched for the first time, and drawing a number an entry.

With --peers, the same inputs go through fusion-bench and mergekit where the environment has them and they the method:
    python tests/benchmarks/bench_merges.py --peers work/golden_venv/bin/python   (made by data_scripts/make_golden.py)
The spectral methods and WUDI take minutes to hours there; --depth 1 runs one of the twelve blocks. Where each has an
environment of its own, say --peers twice.

With --growth, seconds against N = 2 to 20 experts (of --depth blocks) and against 1 to 8 blocks (of --experts), each
with the slope of log time over log size: 1 is linear, below it something fixed is paid, 2 is quadratic.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial, reduce
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

SHAPES = {  # open_clip's ViT-B/32 image tower, outside the blocks and in each of them
    **{"class_embedding": (768,), "conv1.weight": (768, 3, 32, 32), "positional_embedding": (50, 768)},
    **{"ln_pre.weight": (768,), "ln_pre.bias": (768,), "ln_post.weight": (768,), "ln_post.bias": (768,)},
    "proj": (768, 512),
}
BLOCK = {
    **{"ln_1.weight": (768,), "ln_1.bias": (768,), "ln_2.weight": (768,), "ln_2.bias": (768,)},
    **{"attn.in_proj_weight": (2304, 768), "attn.in_proj_bias": (2304,)},
    **{"attn.out_proj.weight": (768, 768), "attn.out_proj.bias": (768,)},
    **{
        "mlp.c_fc.weight": (3072, 768),
        "mlp.c_fc.bias": (3072,),
        "mlp.c_proj.weight": (768, 3072),
        "mlp.c_proj.bias": (768,),
    },
}


def shapes(depth):
    return SHAPES | {f"transformer.resblocks.{i}.{k}": s for i in range(depth) for k, s in BLOCK.items()}


def entries(depth):
    return sum(torch.Size(s).numel() for s in shapes(depth).values())


def experts(depth, N):
    g = torch.Generator().manual_seed(0)
    return [{k: torch.randn(s, generator=g).mul_(1e-3) for k, s in shapes(depth).items()} for _ in range(N)]


# ---------------------------------------------------------------------------- ours


def ours():
    """name -> merge; imported here, because the peers' environment does not have our package."""
    from samerge_edu.merges.actmat import actmat
    from samerge_edu.merges.average import average
    from samerge_edu.merges.consensus import consensus
    from samerge_edu.merges.emr import emr
    from samerge_edu.merges.iso import iso_c, iso_cts
    from samerge_edu.merges.localize_and_stitch import localize_and_stitch
    from samerge_edu.merges.magmax import magmax
    from samerge_edu.merges.pcb import pcb
    from samerge_edu.merges.svc import svc
    from samerge_edu.merges.tact import tact
    from samerge_edu.merges.task_arithmetic import task_arithmetic
    from samerge_edu.merges.ties import ties
    from samerge_edu.merges.tsv_m import tsv_m
    from samerge_edu.merges.wudi import wudi, wudi_flow, wudi_optimum
    from samerge_edu.params import pipe
    from samerge_edu.transforms.breadcrumbs import breadcrumbs
    from samerge_edu.transforms.dare import dare
    from samerge_edu.transforms.della import della
    from samerge_edu.transforms.free_fr import free_fr
    from samerge_edu.transforms.lwptv import layer_saliency, lwptv
    from samerge_edu.transforms.trim import trim

    g = torch.Generator().manual_seed(0)
    return {
        "average": average,
        "task arithmetic": task_arithmetic,
        "trim": pipe(trim, task_arithmetic),
        "TIES": ties,
        "TIES, sum": partial(ties, reduce="sum"),
        "TIES, per tensor": partial(ties, scope="tensor"),
        "DARE": pipe(partial(dare, generator=g, lazy=True), task_arithmetic),
        "DARE + TIES": pipe(partial(dare, generator=g), partial(ties, density=1.0)),
        "DELLA": pipe(partial(della, generator=g), partial(ties, density=1.0)),
        "Breadcrumbs": pipe(breadcrumbs, task_arithmetic),
        "consensus": consensus,
        "MagMax": magmax,
        "EMR": emr,
        "PCB": pcb,
        "Localize-and-Stitch": localize_and_stitch,
        "FR": pipe(free_fr, task_arithmetic),
        "TSV-M": tsv_m,
        "Iso-C": iso_c,
        "Iso-CTS": iso_cts,
        "SVC + TA": partial(svc, merge=task_arithmetic, lam=0.3),
        "ACTMat": actmat,
        "TACT": tact,
        "WUDI, optimum": wudi_optimum,
        "WUDI, flow": wudi_flow,
        "WUDI": partial(wudi, scope="matrices"),
        "LwPTV, saliency": layer_saliency,
        "LwPTV": pipe(lwptv, task_arithmetic),
    }


# ---------------------------------------------------------------------------- theirs


def fusion_bench():
    from fusion_bench.method.dare.utils import module_random_drop_
    from fusion_bench.method.emr_merging.utils import emr_merge
    from fusion_bench.method.isotropic_merging.iso_utils import iso_c, iso_cts
    from fusion_bench.method.magmax.magmax import _magmax_select
    from fusion_bench.method.tall_mask.utils import generate_task_masks
    from fusion_bench.method.task_singular_vector.utils.TSVM_utils import compute_and_sum_svd_mem_reduction
    from fusion_bench.method.ties_merging import ties_merging_utils as ties
    from fusion_bench.method.wudi.wudi import wudi_merging
    from fusion_bench.utils.state_dict_arithmetic import state_dict_add, state_dict_avg

    def ties_merging(taus, merge_func):
        flat = torch.vstack([ties.state_dict_to_vector(tau) for tau in taus])
        return ties.vector_to_state_dict(ties.ties_merging(flat, 20, merge_func), taus[0])

    def dare(taus):
        for tau in taus:
            module_random_drop_(tau, sparsity_level=0.5, rescale=True)
        return reduce(state_dict_add, taus)

    def consensus(taus):
        flat = torch.vstack([ties.state_dict_to_vector(tau) for tau in taus])
        masks = generate_task_masks(flat, flat, torch.zeros(flat.shape[1]), tall_mask_lambda=0.6)
        return ties.vector_to_state_dict(flat.sum(dim=0) * (masks.sum(dim=0) >= 2), taus[0])

    return {
        "average": state_dict_avg,
        "task arithmetic": partial(reduce, state_dict_add),
        "TIES": partial(ties_merging, merge_func="mean"),
        "TIES, sum": partial(ties_merging, merge_func="sum"),
        "DARE": dare,
        "consensus": consensus,
        "MagMax": _magmax_select,
        "EMR": lambda taus: emr_merge(taus)[0],
        "TSV-M": partial(compute_and_sum_svd_mem_reduction, accelerator="cpu"),
        "Iso-C": partial(iso_c, accelerator="cpu"),
        "Iso-CTS": partial(iso_cts, common_space_fraction=0.8, accelerator="cpu"),
        "WUDI": partial(wudi_merging, accelerator="cpu", iter_num=300),
    }


def mergekit():
    from mergekit.merge_methods import registry
    from mergekit.merge_methods.base import TensorGroup

    def merge(name, taus, **parameters):
        method, ids = registry.get(name), range(1, len(taus) + 1)
        defaults = {spec.name: spec.default for spec in method.spec.parameters} | {"weight": 1.0} | parameters
        each = {k: dict.fromkeys(ids, v) for k, v in defaults.items() if k in ("weight", "density", "gamma", "epsilon")}
        merged = {}
        for key in taus[0]:
            base = torch.zeros_like(taus[0][key])
            group = TensorGroup.from_tensors([base, *(tau[key] for tau in taus)], base_index=0)
            merged[key] = method.merge_group(group, **(defaults | each))
        return merged

    return {
        "task arithmetic": partial(merge, "task_arithmetic"),
        "TIES, per tensor": partial(merge, "ties", density=0.2),
        "DARE": partial(merge, "dare_linear", density=0.5),
        "DARE + TIES": partial(merge, "dare_ties", density=0.5),
        "DELLA": partial(merge, "della", density=0.5),
        "Breadcrumbs": partial(merge, "breadcrumbs", density=0.9),
    }


LIBRARIES = {"ours": ours, "fusion-bench": fusion_bench, "mergekit": mergekit}

# ---------------------------------------------------------------------------- measuring


def one_run(library, name, depth, N):
    """Seconds, CPU seconds and peak bytes of one merge, in this process; None if the library does not have it, or is
    not there: the environments of fusion-bench and mergekit need not be one."""
    quiet = contextlib.redirect_stdout(None)
    with open(os.devnull, "w", encoding="utf-8") as nowhere, quiet, contextlib.redirect_stderr(nowhere):
        try:
            merge = LIBRARIES[library]().get(name)
        except ModuleNotFoundError as e:
            if library == "ours" or e.name is None or e.name.split(".")[0] != library.replace("-", "_"):
                raise
            merge = None
        if merge is None:
            return None
        taus = experts(depth, N)
        return measured(lambda: merge(taus))[0]


def measured(work):
    """({seconds, CPU seconds, peak bytes of this process}, result) of work()."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forget the peak so far (Linux)
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return {"seconds": seconds, "cpu": cpu, "peak": int(status.split("VmHWM:")[1].split()[0]) * 1024}, result


def in_its_own_process(python, library, name, arguments):
    runs = []
    for _ in range(arguments.repeat):
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            call = [python, __file__, name, "--library", library, "--out", out.name]
            knobs = ["--depth", arguments.depth, "--experts", arguments.experts, "--threads", arguments.threads]
            subprocess.run([*map(str, call + knobs)], check=True)
            runs.append(json.loads(Path(out.name).read_text(encoding="utf-8")))
    return min(runs, key=lambda run: run["seconds"]) if runs[0] else None


def best_of(runs, work):
    def seconds():
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return min(seconds() for _ in range(runs))


def copy_rate():
    """Bytes per second that a large copy reads and writes, the best of five."""
    a = torch.ones(64 * 2**20)
    b = torch.empty_like(a)
    return 2 * a.nbytes / best_of(5, lambda: b.copy_(a))


def print_prices(d, N, threads):
    """Seconds that this machine needs to copy all experts, and to draw a number for each of their entries."""
    taus = torch.ones(N, d)
    copy = torch.empty_like(taus)
    new = best_of(1, lambda: copy.copy_(taus))
    again = best_of(3, lambda: copy.copy_(taus))
    print(f"copying the {N} experts: {again:.2f} s, into memory touched for the first time {new:.2f} s")

    def draw(n):
        lots, generator = torch.empty(2**16), torch.Generator().manual_seed(n)
        for _ in range(d // len(lots)):
            lots.uniform_(generator=generator)

    with ThreadPoolExecutor(threads) as pool:
        drawing = best_of(3, lambda: list(pool.map(draw, range(N))))
    print(f"drawing a random number an entry, {threads} at a time: {drawing:.2f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="which methods, by the names of the table (default: all)")
    parser.add_argument("--peers", action="append", default=[], help="python of an environment with a peer, or both")
    parser.add_argument("--growth", action="store_true", help="time against experts and against size, ours alone")
    parser.add_argument("--depth", type=int, default=12, help="blocks; 12 is ViT-B")
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--library", choices=LIBRARIES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.library:
        run = one_run(arguments.library, arguments.names[0], arguments.depth, arguments.experts)
        arguments.out.write_text(json.dumps(run), encoding="utf-8")
        return

    if arguments.growth:
        print_growth(arguments.names or ours(), arguments)
        return

    d = entries(arguments.depth)
    floor = 4 * d * (arguments.experts + 1) / copy_rate()
    print(
        f"{arguments.experts} experts of {d / 1e6:.1f} M parameters, {arguments.threads} threads, {version('torch')=}"
    )
    print(f"floor {floor:.2f} s: {4 * d * (arguments.experts + 1) / 1e9:.2f} GB read and written once")
    print_prices(d, arguments.experts, arguments.threads)
    print(f"{'':20}{'ours: wall, CPU, peak':>28}{'/ floor':>9}", end="")
    print(*(f"{peer + ': wall, CPU, peak, ratio':>42}" for peer in ("fusion-bench", "mergekit") if arguments.peers))
    for name in arguments.names or ours():
        mine = in_its_own_process(sys.executable, "ours", name, arguments)
        line = f"{name:20}{figures(mine)}{mine['seconds'] / floor:9.1f}"
        for peer in ("fusion-bench", "mergekit") if arguments.peers else ():
            found = (in_its_own_process(python, peer, name, arguments) for python in arguments.peers)
            if other := next(filter(None, found), None):
                line += f"{figures(other):>34}{other['seconds'] / mine['seconds']:8.1f}"
            else:
                line += f"{'-':>42}"
        print(line, flush=True)


def slope(sizes, seconds):
    """The exponent a of seconds = c * size^a, by least squares on the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def print_growth(names, arguments):
    """Wall and CPU seconds of each method against experts and against size, each row with its two slopes."""
    by_experts = [(N, arguments.depth, N) for N in (2, 4, 8, 16, 20)]
    by_size = [(entries(depth), depth, arguments.experts) for depth in (1, 2, 4, 8)]
    for name in names:
        for what, series in (("N = 2, 4, 8, 16, 20", by_experts), ("1, 2, 4, 8 blocks", by_size)):
            knobs = [argparse.Namespace(**vars(arguments) | {"depth": depth, "experts": N}) for _, depth, N in series]
            runs = [in_its_own_process(sys.executable, "ours", name, each) for each in knobs]
            for clock in ("seconds", "cpu"):
                times = [run[clock] for run in runs]
                line = "".join(f"{t:9.2f}" for t in times)
                exponent = slope([size for size, *_ in series], times)
                print(f"{name:20}{what:22}{clock:9}{line:46}slope {exponent:5.2f}", flush=True)


def figures(run):
    return f"{run['seconds']:9.2f} s {run['cpu']:7.2f} s {run['peak'] / 1e9:5.1f} GB"


if __name__ == "__main__":
    main()
