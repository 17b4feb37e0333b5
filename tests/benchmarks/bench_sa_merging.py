"""How fast is SA-Merging at the size of CLIP ViT-B/32?  `python tests/benchmarks/bench_sa_merging.py [--help]`

Random weights of the tower's shapes (87.8 M parameters), 8 experts in files that are read lazily, T = 10, p = 0.2.
Prints seconds (wall and CPU), the peak of memory beyond what the process held before, the bytes that the algorithm
must touch, and how far the run is from the time that this machine needs to move those bytes (measured in the same run).
"""

import argparse
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import torch

from samerge_edu.files import LazyParams, save_params
from samerge_edu.params import lazy_task_vectors
from samerge_edu.saliency import clip_flow, flow_score
from samerge_edu.transforms.sa_merging import density, sa_merging


def vit(width: int, depth: int, mlp: int, patch: int, tokens: int, out: int) -> dict[str, tuple[int, ...]]:
    """The tensors of open_clip's image tower."""
    shapes = {"class_embedding": (width,), "positional_embedding": (tokens, width), "proj": (width, out)}
    shapes |= {"conv1.weight": (width, 3, patch, patch)}
    norms = {"ln_pre": width, "ln_post": width}
    for i in range(depth):
        block = f"transformer.resblocks.{i}."
        shapes |= {block + "attn.in_proj_weight": (3 * width, width), block + "attn.in_proj_bias": (3 * width,)}
        shapes |= {block + "attn.out_proj.weight": (width, width), block + "attn.out_proj.bias": (width,)}
        shapes |= {block + "mlp.c_fc.weight": (mlp, width), block + "mlp.c_fc.bias": (mlp,)}
        shapes |= {block + "mlp.c_proj.weight": (width, mlp), block + "mlp.c_proj.bias": (width,)}
        norms |= {block + "ln_1": width, block + "ln_2": width}
    for layer, size in norms.items():
        shapes |= {layer + ".weight": (size,), layer + ".bias": (size,)}
    return shapes


def bandwidth(device: torch.device) -> float:
    """Bytes per second that a large copy reads and writes, the best of five."""
    a = torch.ones(64 * 2**20, device=device)
    b, best = torch.empty_like(a), float("inf")
    for _ in range(5):
        best = min(best, seconds(lambda: b.copy_(a), device))
    return 2 * a.numel() * a.element_size() / best


def seconds(job, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    job()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def bytes_touched(d: int, N: int, T: int, p: float) -> int:
    """What any exact implementation reads and writes, in float32, if it works on survivors only.

    Once: read the base and each expert, write each task vector. In a round, for each expert: read the base and the
    survivors (value 4 bytes, position 4) for the flow, forward and backward; read base, aggregate and survivors for
    the score; write what is left. Scores live in cache.
    """
    once = 4 * d * (1 + 2 * N)
    rounds = sum(
        N * (2 * (4 * d + 8 * s) + 2 * 4 * d + 8 * s + 8 * s * (1 - p)) for s in (d * (1 - p) ** t for t in range(T))
    )
    return int(once + rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--modulation", default="agreement")
    parser.add_argument("--flow-at", default="expert")
    parser.add_argument("--depth", type=int, default=12, help="12 is ViT-B; fewer blocks for a quick look")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    N, T, p = args.experts, args.rounds, 0.2

    with tempfile.TemporaryDirectory() as folder:
        g, shapes = torch.Generator().manual_seed(0), vit(768, args.depth, 3072, 32, 50, 512)
        theta_0 = {k: torch.randn(s, generator=g) * s[-1] ** -0.5 for k, s in shapes.items()}
        save_params(Path(folder) / "base.safetensors", theta_0)
        for n in range(N):
            theta_n = {k: v + 0.02 * torch.randn(v.shape, generator=g) * v.std() for k, v in theta_0.items()}
            save_params(Path(folder) / f"{n}.safetensors", theta_n)
        del theta_0, theta_n
        d = sum(torch.Size(s).numel() for s in shapes.values())

        rate = bandwidth(device)
        files = [LazyParams(Path(folder) / f"{n}.safetensors", device) for n in ("base", *range(N))]
        taus = lazy_task_vectors(files[0], files[1:])
        before, peak, out, rounds = resident(), Peak(device), [], []

        def look(t, now):
            rounds.append(time.perf_counter())

        def run():
            score = flow_score(files[0], partial(clip_flow, heads=12), args.modulation, args.flow_at)
            out.extend(sa_merging(taus, score=score, T=T, p=p, progress=look))

        start, cpu = time.perf_counter(), time.process_time()
        with peak:
            wall = seconds(run, device)
        cpu = time.process_time() - cpu

    touched = bytes_touched(d, N, T, p)
    floor = touched / rate
    print(f"{d / 1e6:.1f} M parameters, {N} experts, T = {T}, p = {p}, {args.modulation}, flow at {args.flow_at}, "
          f"{device}, {args.threads} threads, torch {torch.__version__}")  # fmt: skip
    print(f"seconds        {wall:.1f} wall, {cpu:.1f} CPU;  first round ends at {rounds[0] - start:.1f}")
    print(f"density        {density(out):.4f}")
    print(f"peak memory    {(peak.bytes - before) / 2**30:.2f} GiB beyond the {before / 2**30:.2f} GiB held before")
    print(f"bytes touched  {touched / 1e9:.0f} GB at least;  this machine copies {rate / 1e9:.1f} GB/s now")
    print(f"floor          {floor:.1f} s;  ratio {wall / floor:.1f} (wall), {cpu / floor:.1f} (CPU)")


def resident() -> int:
    """Bytes of memory of our own, without the pages of files that are mapped (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


class Peak:
    """The largest `resident()` while the block runs, looked at 20 times a second; on a GPU its allocator's too."""

    def __init__(self, device: torch.device):
        self.device, self.bytes, self.over = device, 0, threading.Event()

    def watch(self) -> None:
        while not self.over.wait(0.05):
            self.bytes = max(self.bytes, resident())

    def __enter__(self):
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        threading.Thread(target=self.watch, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.over.set()
        if self.device.type == "cuda":
            self.bytes += torch.cuda.max_memory_allocated()


if __name__ == "__main__":
    main()
