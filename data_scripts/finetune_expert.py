"""Fine-tune one expert: the image tower of a CLIP against frozen zero-shot heads, fully or as LoRA.

    python data_scripts/finetune_expert.py --suite pocket --task digits --steps 200 --out expert     a minute on a CPU
    python data_scripts/finetune_expert.py --device cuda --out expert                                MNIST, ViT-B/32
    python data_scripts/finetune_expert.py --lora 16 --lr 3e-4 --device cuda --out expert            the same as LoRA

The recipe of the Task Arithmetic authors: AdamW, lr 1e-5 with warm-up and cosine, weight decay 0.1, text tower
frozen. (FusionBench's experts, the ones that the suites load: Adam, lr 1e-5 throughout, no weight decay, 4,000 steps
of 32.) By default 1,000 steps of 32 on 4,000 training images, which are held in memory (2.4 GB at 224 x 224); the
published runs saw the whole training sets. Downloads the base (605 MB, MIT) and MNIST (16 MB, CC BY-SA 3.0). Minutes
on a T4: not measured yet; the script prints its own. Interrupt it as you like: the same command goes on where it was
saved.
"""

import argparse
import math
import sys
import time
from pathlib import Path

import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy, normalize
from tqdm import trange

from samerge_edu.evaluate import accuracy
from samerge_edu.files import LazyParams, save_params
from samerge_edu.lora import LoRA, dense, write_peft
from samerge_edu.suites import load_suite


def main() -> None:
    """Parse the options and train; a mistake or a failed download ends with one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="vit-b-32", help="pocket needs no download (default: %(default)s)")
    parser.add_argument("--task", default="mnist")
    parser.add_argument("--out", type=Path, required=True, help="folder for the expert and its checkpoint")
    parser.add_argument("--lora", type=int, metavar="RANK", help="train LoRA factors of this rank; take a larger --lr")
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=4000, help="training images, class-balanced")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    try:
        suite = load_suite(options.suite, device=options.device)
        if options.task not in suite.tasks:
            raise ValueError(f"task: got '{options.task}', expected one of {', '.join(suite.tasks)}")
        finetune(suite, options)
    except (OSError, ValueError) as e:
        sys.exit(f"finetune_expert: {e}")


def trainable(theta_0: dict[str, torch.Tensor], rank: int | None, seed: int) -> dict[str, torch.Tensor]:
    """What is trained: every tensor, or for LoRA random A and zero B for each matrix of the blocks, so tau is 0."""
    if rank is None:
        return {k: v.clone() for k, v in theta_0.items()}
    generator, factors = torch.Generator().manual_seed(seed), {}
    for key, W in theta_0.items():
        if W.ndim == 2 and "resblocks" in key:
            A = torch.randn(rank, W.shape[1], generator=generator) / math.sqrt(W.shape[1])
            factors |= {f"{key}|A": A.to(W), f"{key}|B": W.new_zeros(len(W), rank)}
    return factors


def adapter(factors: dict[str, torch.Tensor]) -> dict[str, LoRA]:
    """The factors as one LoRA a matrix, with scale 1."""
    names = [k.removesuffix("|A") for k in factors if k.endswith("|A")]
    return {k: LoRA(factors[f"{k}|A"], factors[f"{k}|B"], 1.0) for k in names}


def finetune(suite, options: argparse.Namespace) -> None:
    """Train, saving every 100 steps; each step's batch depends on the seed and the step only, so resuming is exact."""
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint, start = options.out / "checkpoint.safetensors", 0
    theta_0 = {k: suite.theta_0[k].float() for k in suite.theta_0}
    weights = trainable(theta_0, options.lora, options.seed)
    run = (
        f"{suite.name} {options.task} lora={options.lora} lr={options.lr} steps={options.steps} batch={options.batch} "
    )
    run += f"images={options.images} seed={options.seed}"
    optimizer = torch.optim.AdamW([w.requires_grad_() for w in weights.values()], lr=options.lr, weight_decay=0.1)
    if checkpoint.exists():
        saved = LazyParams(checkpoint, options.device)
        if saved.metadata["run"] != run:
            raise ValueError(f"{checkpoint} is of another run ({saved.metadata['run']}): take another --out")
        start = int(saved.metadata["step"])
        for key, w in weights.items():
            w.data = saved[f"weight {key}"]
            moments = {m: saved[f"{m} {key}"] for m in ("exp_avg", "exp_avg_sq")}
            optimizer.state[w] = moments | {"step": torch.tensor(float(start))}

    def theta() -> dict[str, torch.Tensor]:
        return weights if options.lora is None else {**theta_0, **_plus(theta_0, adapter(weights))}

    images, labels = suite.images(options.task, "train", options.images)
    head, clock = suite.heads[options.task].to(suite.device), time.perf_counter()
    for step in trange(start, options.steps, initial=start, total=options.steps, desc=options.task):
        warm, t = 0.1 * options.steps, step + 1
        optimizer.param_groups[0]["lr"] = options.lr * min(
            t / warm, 0.5 * (1 + math.cos(math.pi * step / options.steps))
        )
        batch = torch.randint(
            len(labels), (options.batch,), generator=torch.Generator().manual_seed(options.seed + 7919 * t)
        )
        features = normalize(functional_call(suite.visual, theta(), (images[batch],)), dim=-1)
        loss = cross_entropy(suite.logit_scale * features @ head.T, labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if t % 100 == 0 or t == options.steps:
            state = {f"weight {k}": w for k, w in weights.items()}
            state |= {f"{m} {k}": optimizer.state[w][m] for k, w in weights.items() for m in ("exp_avg", "exp_avg_sq")}
            save_params(checkpoint, state, {"run": run, "step": str(t)})

    final = {k: v.detach() for k, v in theta().items()}
    about = {"task": options.task, "base": suite.name, "family": suite.family, "command": run}
    if options.lora is None:
        save_params(options.out / "expert.safetensors", final, about)
    else:
        write_peft(
            options.out, {k: LoRA(v.A.detach(), v.B.detach(), v.scale) for k, v in adapter(weights).items()}, suite.name
        )
    before, after = (accuracy(suite, x, options.task, "val") for x in (suite.theta_0, final))
    print(f"{options.task}: {before:.1f} % before, {after:.1f} % after, on validation; loss {loss.item():.3f}")
    print(f"{(time.perf_counter() - clock) / 60:.1f} minutes on {options.device}; written to {options.out}")


def _plus(theta_0, loras) -> dict[str, torch.Tensor]:
    return {k: theta_0[k] + update for k, update in dense(loras).items()}


if __name__ == "__main__":
    main()
