"""mergekit beside `samerge-edu merge` on the same folders: equal results, seconds, peak memory.

    python tests/benchmarks/bench_mergekit.py --mergekit /path/to/mergekit-yaml

A LLaMA-type model of random weights, sharded, and three experts of it. Not part of the tests: mergekit
lives in an environment of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from samerge_edu.folders import open_model

OURS = {
    "task arithmetic": ["--method", "task arithmetic", "--lam", "0.4"],
    "TIES, per tensor": ["--method", "TIES", "--set", "density=0.3", "--set", "scope=tensor"],
}
THEIRS = {
    "task arithmetic": {"merge_method": "task_arithmetic", "weight": 0.4, "parameters": {"normalize": False}},
    "TIES, per tensor": {"merge_method": "ties", "weight": 1.0, "density": 0.3, "parameters": {"normalize": True}},
}


def make(folder: Path, hidden: int, layers: int, dtype: torch.dtype, experts: int = 3) -> list[Path]:
    """The base and its experts, as transformers saves them, in shards of 50 MB."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=8000,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=8,
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).to(dtype)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    folders = [folder / name for name in ("base", *(f"expert{i}" for i in range(experts)))]
    for i, out in enumerate(folders):
        model.load_state_dict({k: v + (0.003 * torch.randn_like(v) if i else 0) for k, v in start.items()})
        model.save_pretrained(out, max_shard_size="50MB")
    return folders


def timed(words: list[str], env: dict) -> tuple[float, float]:
    """(seconds, peak MiB) of a command, of it alone."""
    program = (
        "import resource, subprocess, sys; r = subprocess.run(sys.argv[1:], capture_output=True, text=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, r.returncode); "
        "print(r.stderr[-999:], file=sys.stderr)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, env=env)
    seconds = time.perf_counter() - start
    kib, code = map(int, done.stdout.split()[-2:])
    if code:
        raise SystemExit(f"{words[0]} failed: {done.stderr}")
    return seconds, kib / 1024


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--mergekit", default="mergekit-yaml", help="the program, in its own environment")
    arguments.add_argument("--hidden", type=int, default=512)
    arguments.add_argument("--layers", type=int, default=8)
    arguments.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base, *experts = make(Path(folder), given.hidden, given.layers, getattr(torch, given.dtype))
        size = sum(f.stat().st_size for f in base.glob("*.safetensors")) / 1e6
        print(
            f"base: {size:.0f} MB in {len(list(base.glob('*.safetensors')))} shards, "
            f"{len(experts)} experts, {given.dtype}"
        )
        print(
            f"{'method':<20}{'program':<14}{'seconds':>9}{'peak MiB':>10}   largest difference / share of equal entries"
        )
        ours_env = dict(os.environ)
        theirs_env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        for name in OURS:
            ours, theirs = Path(folder) / f"ours {name}", Path(folder) / f"theirs {name}"
            words = [sys.executable, "-c", "from samerge_edu.cli import app; app()", "merge", "--base", str(base)]
            words += [w for e in experts for w in ("--expert", str(e))] + [*OURS[name], "--out", str(ours)]
            mine = timed(words, ours_env)
            recipe = THEIRS[name]
            each = {k: recipe[k] for k in ("weight", "density") if k in recipe}
            config = {
                "merge_method": recipe["merge_method"], "base_model": str(base), "parameters": recipe["parameters"],
                "models": [{"model": str(e), "parameters": each} for e in experts], "dtype": "float32",
                "out_dtype": given.dtype,
            }  # fmt: skip
            yaml = Path(folder) / "recipe.yml"
            yaml.write_text(json.dumps(config), encoding="utf-8")
            peer = timed([given.mergekit, str(yaml), str(theirs)], theirs_env)
            a, b = open_model(ours).params, open_model(theirs).params
            worst = max(float((a[k].float() - b[k].float()).abs().max()) for k in a)
            equal = sum(int((a[k] == b[k]).sum()) for k in a) / sum(a[k].numel() for k in a)
            print(f"{name:<20}{'samerge-edu':<14}{mine[0]:9.1f}{mine[1]:10.0f}")
            print(f"{'':<20}{'mergekit':<14}{peer[0]:9.1f}{peer[1]:10.0f}   {worst:.2g} / {equal:.4%}")


if __name__ == "__main__":
    main()
