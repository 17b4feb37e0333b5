"""Wall time and peak memory of streaming merges at ViT-B/32's size, on random experts made on the spot.

    python tests/benchmarks/bench_streaming.py [--methods "TIES,TSV-M"] [--folder DIR] [--threads 2]

Writes 9 files of 350 MB into a temporary folder (3.2 GB) and the merged one beside them. Each method runs in a
process of its own; its peak is that process's high-water mark above what it used before the merge, file pages that
the kernel maps and can drop at will counted too. The floor is the time to read all inputs and write the output.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

CHILD = """
import json, os, sys, time
from pathlib import Path
import torch
from samerge_edu.forecast import forecast
from samerge_edu.leaderboard import measured
from samerge_edu.methods import METHODS
from samerge_edu.files import LazyParams
from samerge_edu.streaming import merge_to_file
from types import SimpleNamespace

folder, name = Path(sys.argv[1]), sys.argv[2]
per_tensor = METHODS[name].per_tensor
torch.set_num_threads(int(sys.argv[3]))
models = [LazyParams(folder / f"{n}.safetensors") for n in range(9)]
suite = SimpleNamespace(theta_0=models[0], attention_heads=12, device=torch.device("cpu"))
merge = METHODS[name].recipe(suite)
options = dict(lam=METHODS[name].lam, per_tensor=per_tensor, recipe=name)
work = lambda: merge_to_file(models[0], models[1:], merge, folder / "out.safetensors", **options)
cpu = time.process_time()
_, seconds, peak = measured(work, torch.device("cpu"))
cpu = time.process_time() - cpu
needs = forecast(models, per_tensor).needs
how = "tensor by tensor" if per_tensor else "whole"
forecast_mib = min(needs.values()) / 2**20
print(json.dumps({"how": how, "seconds": seconds, "cpu": cpu, "peak_mib": peak, "forecast_mib": forecast_mib}))
"""


def make_models(folder: Path) -> None:
    """A base and 8 experts with ViT-B/32's tensors; updates of a per mille, as fine-tuning makes them."""
    from samerge_edu.files import save_params
    from samerge_edu.suites.published.names import build_clip

    vision = {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32}
    text = {"context_length": 8, "vocab_size": 100, "width": 16, "heads": 1, "layers": 1}
    clip = build_clip({"embed_dim": 512, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text})
    base = {k: v for k, v in clip.visual.state_dict().items() if k != "proj"}
    print(f"{sum(v.numel() for v in base.values()):,} parameters", flush=True)
    generator = torch.Generator().manual_seed(0)
    for n in range(9):
        noise = {k: 1e-3 * torch.randn(v.shape, generator=generator) for k, v in base.items()}
        save_params(folder / f"{n}.safetensors", {k: base[k] + noise[k] if n else base[k] for k in base})


def floor(folder: Path) -> float:
    """Seconds to read the nine files once and write one: what no merge can be faster than on this machine."""
    start = time.perf_counter()
    buffer = bytearray(2**24)
    for n in range(9):
        with (folder / f"{n}.safetensors").open("rb") as f:
            while f.readinto(buffer):
                pass
    data = (folder / "0.safetensors").read_bytes()
    (folder / "out.safetensors").write_bytes(data)
    return time.perf_counter() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default="Task Arithmetic,TIES,TSV-M,SA-Merging,LwPTV + TA", help="rows, by commas")
    parser.add_argument("--folder", type=Path, help="keep the models here and use them again")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        if not (folder / "8.safetensors").exists():
            folder.mkdir(parents=True, exist_ok=True)
            make_models(folder)
        print(f"floor (read 9 files, write 1): {floor(folder):.1f} s", flush=True)
        print(f"{'method':<20}{'read':<18}{'seconds':>9}{'CPU s':>8}{'peak MiB':>10}{'forecast':>10}", flush=True)
        for method in arguments.methods.split(","):
            command = [sys.executable, "-c", CHILD, str(folder), method, str(arguments.threads)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{method:<20}{done.stderr.splitlines()[-1]}", flush=True)
                continue
            r = json.loads(done.stdout.splitlines()[-1])
            times = f"{r['seconds']:9.1f}{r['cpu']:8.1f}{r['peak_mib']:10.0f}{r['forecast_mib']:10.0f}"
            print(f"{method:<20}{r['how']:<18}{times}", flush=True)
