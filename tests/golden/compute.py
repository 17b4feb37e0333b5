"""What public merging packages make of small seeded experts. Run in an environment that has them, not in ours.

    python data_scripts/make_golden.py      # makes that environment, and runs this file in it

Imports nothing of samerge_edu; writes one file a package, its version in the metadata.
"""

from functools import reduce
from importlib.metadata import version
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent
SHAPES = {  # a vision transformer in miniature, with open_clip's names
    "visual.class_embedding": (6,),
    "visual.conv1.weight": (6, 3, 2, 2),
    "visual.positional_embedding": (5, 6),
    "visual.ln_pre.bias": (6,),
    "visual.proj": (6, 4),
    "visual.transformer.resblocks.0.attn.in_proj_weight": (18, 6),
    "visual.transformer.resblocks.0.attn.in_proj_bias": (18,),
    "visual.transformer.resblocks.0.mlp.c_fc.weight": (24, 6),
    "visual.transformer.resblocks.0.mlp.c_proj.weight": (6, 24),
}


def write(file, package, results):
    """`results`: call, as text -> its tensors. The call is the first half of each tensor's key."""
    from safetensors.torch import save_file

    tensors = {
        f"{call}|{key}": t.detach().clone().contiguous() for call, ts in results.items() for key, t in ts.items()
    }
    made_by = " ".join(f"{name}=={version(name)}" for name in (package, "torch"))  # several entries change order
    save_file(tensors, GOLDEN / file, metadata={"made_by": made_by})


def seeded_models():
    """Base and three experts whose changes have sizes 1 : 2 : 3, so that a lost weight shows."""
    import torch

    g = torch.Generator().manual_seed(20260608)
    theta_0 = {k: 0.1 * torch.randn(shape, generator=g) for k, shape in SHAPES.items()}
    thetas = [{k: v + 0.01 * n * torch.randn(v.shape, generator=g) for k, v in theta_0.items()} for n in (1, 2, 3)]
    return theta_0, thetas


def fusion_bench_numbers(theta_0, thetas):
    import torch
    from fusion_bench.method.dare.utils import module_random_drop_
    from fusion_bench.method.emr_merging.utils import emr_merge
    from fusion_bench.method.isotropic_merging.iso_utils import iso_c, iso_cts
    from fusion_bench.method.magmax.magmax import _magmax_select
    from fusion_bench.method.singular_value_calibration.utils import (
        subspace_consistency_spectral_calibration_accelerated as svc,
    )
    from fusion_bench.method.tall_mask.utils import generate_task_masks
    from fusion_bench.method.task_singular_vector.utils.TSVM_utils import compute_and_sum_svd_mem_reduction
    from fusion_bench.method.ties_merging.ties_merging_utils import (
        state_dict_to_vector,
        ties_merging,
        vector_to_state_dict,
    )
    from fusion_bench.method.wudi.wudi import wudi_merging
    from fusion_bench.utils.state_dict_arithmetic import state_dict_add, state_dict_mul

    def taus():
        return [{k: theta[k] - theta_0[k] for k in theta_0} for theta in thetas]

    def exact():  # float64 where an SVD or 300 steps would add up float32's rounding, theirs and ours
        return [{k: v.double() for k, v in tau.items()} for tau in taus()]

    def flat():
        return torch.stack([state_dict_to_vector(tau) for tau in taus()])

    def unflat(vector):
        return vector_to_state_dict(vector, theta_0)

    total = reduce(state_dict_add, taus())
    results = {
        # its task_arithmetic_merge stops here with a TypeError (Parameter against Tensor): its own two steps instead
        "state_dict_add(theta_0, state_dict_mul(sum, 0.3))": state_dict_add(theta_0, state_dict_mul(total, 0.3)),
        "iso_c": iso_c(exact(), accelerator="cpu"),
        "compute_and_sum_svd_mem_reduction": compute_and_sum_svd_mem_reduction(exact(), accelerator="cpu"),
        "_magmax_select": _magmax_select(taus()),
    }
    for alpha in (0.1, 1.0):
        results[f"svc({alpha}) of 0.3 * sum"] = {
            k: svc(torch.zeros_like(v), [tau[k] for tau in exact()], 0.3 * sum(tau[k] for tau in exact()), alpha, "cpu")
            for k, v in exact()[0].items()
            if v.ndim == 2
        }
    results["emr_merge: vector"], masks, factors = emr_merge(taus())
    for n, factor in enumerate(factors):
        results[f"emr_merge: expert {n}"] = {k: m[n].float() for k, m in masks.items()} | {"factor": factor}
    for merge_func in ("mean", "sum"):
        results[f"ties_merging(20, {merge_func})"] = unflat(ties_merging(flat(), 20, merge_func))
    for fraction in (0.8, 0.5):
        results[f"iso_cts({fraction})"] = iso_cts(exact(), common_space_fraction=fraction, accelerator="cpu")
    for steps in (10, 300):
        results[f"wudi_merging(iter_num={steps})"] = wudi_merging(exact(), accelerator="cpu", iter_num=steps)
    masks = generate_task_masks(
        flat(),
        torch.stack([state_dict_to_vector(t) for t in thetas]),
        state_dict_to_vector(theta_0),
        tall_mask_lambda=0.6,
    )
    for n, mask in enumerate(masks):
        results[f"generate_task_masks(tall_mask_lambda=0.6)[{n}]"] = unflat(mask.float())
    torch.manual_seed(0)
    (dropped, *_) = taus()
    module_random_drop_(dropped, sparsity_level=0.5, rescale=True)
    results["module_random_drop_(0.5, rescale=True)[0]"] = dropped
    return results


def mergekit_numbers(theta_0, thetas):
    import torch
    from mergekit import sparsify
    from mergekit.merge_methods import registry
    from mergekit.merge_methods.base import TensorGroup

    def run(name, weight=(1.0, 1.0, 1.0), **parameters):
        method = registry.get(name)
        defaults = {spec.name: spec.default for spec in method.spec.parameters}
        each = {k: {n: parameters.get(k, defaults.get(k)) for n in (1, 2, 3)} for k in ("density", "gamma", "epsilon")}
        shared = {k: parameters.get(k, defaults[k]) for k in ("int8_mask", "normalize", "rescale", "lambda")}
        arguments = shared | each | {"weight": dict(zip((1, 2, 3), weight, strict=True))}
        return {
            key: method.merge_group(
                TensorGroup.from_tensors([theta_0[key], *(t[key] for t in thetas)], base_index=0), **arguments
            )
            for key in theta_0
        }

    tau = {k: thetas[0][k] - theta_0[k] for k in theta_0}
    results = {
        "task_arithmetic(weight=0.3)": run("task_arithmetic", weight=(0.3, 0.3, 0.3)),
        "ties(density=0.5)": run("ties", density=0.5),
        "ties(density=0.5, weight=1 2 3, normalize=False)": run(
            "ties", weight=(1.0, 2.0, 3.0), density=0.5, normalize=False
        ),
        "dare_linear(density=1)": run("dare_linear", density=1.0),
        "breadcrumbs(density=0.5, gamma=1/6)": run("breadcrumbs", density=0.5, gamma=1 / 6),
        "magnitude(0.5)": {k: sparsify.magnitude(v, 0.5) for k, v in tau.items()},
    }
    # DELLA's keep probabilities: the average of many draws, without the rescaling that would hide them
    torch.manual_seed(0)
    draws = 20_000
    row = tau["visual.proj"]
    kept = sum(sparsify.della_magprune(row, 0.5, 0.2, rescale_norm=None) != 0 for _ in range(draws))
    results["della_magprune(0.5, epsilon=0.2): share of 20000 draws"] = {"visual.proj": kept / draws}
    return results


def peft_numbers():
    """Two adapters of different scale on two layers; PEFT's own tensors, before and after."""
    import torch
    from peft import LoraConfig, get_peft_model

    g = torch.Generator().manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5, bias=False), torch.nn.Linear(5, 4, bias=False))
    layers = ["0", "1"]
    model = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules=layers), adapter_name="first")
    model.add_adapter("second", LoraConfig(r=2, lora_alpha=3, target_modules=layers))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=g))

    def adapter(name):
        found = {}
        for layer in layers:
            module = model.base_model.model[int(layer)]
            found |= {
                f"{layer}.A": module.lora_A[name].weight,
                f"{layer}.B": module.lora_B[name].weight,
                f"{layer}.scale": torch.tensor(float(module.scaling[name])),
            }
        return found

    results = {"adapter first": adapter("first"), "adapter second": adapter("second")}
    for kind in ("cat", "svd", "linear", "ties", "ties_svd", "magnitude_prune"):
        name = f"{kind}(0.7, 0.4)" + (", density=0.5" if kind.startswith(("ties", "magnitude")) else "")
        density = 0.5 if "density" in name else None
        merged = f"merged_{kind}"
        model.add_weighted_adapter(["first", "second"], [0.7, 0.4], merged, combination_type=kind, density=density)
        results[name] = adapter(merged)
    return results


def peft_functions(theta_0, thetas):
    import torch
    from peft.utils import merge_utils

    weights = torch.tensor([1.0, 1.0, 1.0])
    tau = {k: [theta[k] - theta_0[k] for theta in thetas] for k in theta_0}
    return {
        "task_arithmetic": {k: merge_utils.task_arithmetic(v, weights) for k, v in tau.items()},
        "ties(density=0.5)": {k: merge_utils.ties(v, weights, 0.5) for k, v in tau.items()},
        "magnitude_prune(density=0.5)": {k: merge_utils.magnitude_prune(v, weights, 0.5) for k, v in tau.items()},
    }


def main():
    theta_0, thetas = seeded_models()
    models = {"theta_0": theta_0} | {f"theta_{n}": theta for n, theta in enumerate(thetas, start=1)}
    write("models.safetensors", "safetensors", models)
    write("fusion_bench.safetensors", "fusion-bench", fusion_bench_numbers(theta_0, thetas))
    write("mergekit.safetensors", "mergekit", mergekit_numbers(theta_0, thetas))
    write("peft.safetensors", "peft", peft_numbers() | peft_functions(theta_0, thetas))


if __name__ == "__main__":
    main()
