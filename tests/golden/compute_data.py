"""Golden numbers of methods that look at data, made by fusion-bench; run by data_scripts/make_golden.py.

Fisher, RegMean, RegMean++, task-wise and layer-wise AdaMerging, Surgery on a small seeded network of two residual
blocks; writes tests/golden/fusion_bench_data.safetensors, which holds the inputs as well and names the versions.
tests/test_golden_data.py compares. Nothing here is imported by samerge_edu, and no line of fusion-bench is copied: only
numbers that it computed. tests/benchmarks/bench_data.py sets the constants and `Net` to time the same calls.
"""

from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

GOLDEN = Path(__file__).resolve().parent
N, IMAGES, DIM, CLASSES, SCALE = 3, 12, 6, 4, 5.0
BATCH, NORMALISE, LEVELS = 4, (True, False), ("task", "layer")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.out = nn.Linear(DIM, 9), nn.Linear(9, DIM)

    def forward(self, x):
        return x + self.out(F.gelu(self.fc(x)))


class Net(nn.Module):
    """In miniature what the methods need of a transformer: an embedding, blocks, residual additions."""

    def __init__(self):
        super().__init__()
        self.embed, self.resblocks = nn.Linear(DIM, DIM), nn.ModuleList([Block(), Block()])

    def forward(self, x):
        x = self.embed(x)
        for block in self.resblocks:
            x = block(x)
        return x


def problem():
    """(base, N experts, N sets of inputs, N heads of unit length), drawn from one seed."""
    g = torch.Generator().manual_seed(0)
    shapes = {k: v.shape for k, v in Net().state_dict().items()}
    base = {k: 0.4 * torch.randn(s, generator=g) for k, s in shapes.items()}
    experts = [{k: v + 0.2 * torch.randn(v.shape, generator=g) for k, v in base.items()} for _ in range(N)]
    inputs = [torch.randn(IMAGES, DIM, generator=g) for _ in range(N)]
    heads = [F.normalize(torch.randn(CLASSES, DIM, generator=g), dim=1) for _ in range(N)]
    return base, experts, inputs, heads


def net(params):
    model = Net()
    model.load_state_dict(params)
    return model


def cosine_logits(model, x, head):
    return SCALE * F.normalize(model(x), dim=-1) @ head.T


def fisher(base, experts, inputs, heads):
    from fusion_bench.method.fisher_merging.fisher_merging import (
        get_param_squared_gradients,
        merging_with_fisher_weights,
    )

    names, weights = list(base), []
    for params, x, head in zip(experts, inputs, heads, strict=True):
        model, total = net(params), {k: 0 for k in names}
        for batch in x.split(BATCH):
            log_p = cosine_logits(model, batch, head).log_softmax(dim=-1)
            model.zero_grad()
            (log_p.exp().detach().sqrt() * log_p).sum().backward()  # get_fisher_weights' objective
            squared = get_param_squared_gradients(model, names)
            total = {k: total[k] + squared[k] for k in names}
        weights.append({k: v / len(x) for k, v in total.items()})
    merged = {
        f"merged, normalise={normalise}": merging_with_fisher_weights(
            {k: [p[k] for p in experts] for k in names}, weights, torch.ones(N) / N, normalise, 1e-6
        )
        for normalise in NORMALISE
    }
    return {f"fisher {n}": w for n, w in enumerate(weights)} | {f"fisher {k}": v for k, v in merged.items()}


def regmean(base, experts, inputs, heads):
    from fusion_bench.method.regmean.regmean import RegMeanAlgorithm, merging_with_regmean_weights

    class Weights(RegMeanAlgorithm):
        def get_regmean_weights(self, model_name, model, train_dataset, linear_modules_to_merge):
            return hooked(linear_modules_to_merge, lambda: model(train_dataset))

    algorithm = Weights.__new__(Weights)
    weights = []
    for params, x in zip(experts, inputs, strict=True):
        model = net(params)
        linear = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
        weights.append(algorithm.get_regmean_weights("", model, x, linear))
    merged = merging_with_regmean_weights({k: [p[k] for p in experts] for k in base}, weights, 0.95)
    return {"regmean merged": merged} | {f"regmean {n}": w for n, w in enumerate(weights)}


def hooked(modules, run):
    """name -> mean over rows of x x^T: `compute_regmean_weights`, whose only caller wants a data loader."""
    grams = {}

    def hook(name):
        def see(module, x, z):
            x = x[0].flatten(end_dim=-2)
            grams[name] = x.T @ x / len(x)

        return see

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return grams


def regmean_pp(base, experts, inputs, heads):
    from fusion_bench.method.regmean_plusplus.regmean_plusplus import RegMeanAlgorithmPlusPlus
    from fusion_bench.modelpool import BaseModelPool

    class Algorithm(RegMeanAlgorithmPlusPlus):
        def merge_embedding_layer(self, models_to_merge_dict):
            models = list(models_to_merge_dict.values())
            return {k: sum(m.state_dict()[k] for m in models) / N for k in base if k.startswith("embed.")}

        def get_input_for_first_layer(self, model, train_dataset):
            return [model.embed(train_dataset)]

        def get_layers(self, model):
            return model.resblocks

        def update_merged_params_dict(self, merged_params_dict, new_merged_params, layer_idx):
            return merged_params_dict | {f"resblocks.{layer_idx}.{k}": v for k, v in new_merged_params.items()}

        def layer_batches_forward(self, layer, batches_input):
            return [layer(x) for x in batches_input]

        def get_regmean_weights(self, model_name, layer, batches_input, linear_modules_to_merge):
            return hooked(linear_modules_to_merge, lambda: [layer(x) for x in batches_input])

    class Pool(BaseModelPool):
        def load_train_dataset(self, dataset_name):
            return inputs[int(dataset_name)]

    names = [str(n) for n in range(N)]
    pool = Pool({"_pretrained_": net(base), **{name: net(p) for name, p in zip(names, experts, strict=True)}})
    algorithm = Algorithm(
        num_regmean_examples=IMAGES, exclude_param_names_regex=[], reduce_non_diagonal_ratio=0.95, weight_transpose=True
    )
    return {"regmean++ merged": algorithm.run(pool).state_dict()}


def adamerging(base, experts, inputs, heads):
    from fusion_bench.method.adamerging.entropy_loss import entropy_loss
    from fusion_bench.models.wrappers.layer_wise_fusion import LayerWiseMergedModel, get_layer_wise_weights
    from fusion_bench.models.wrappers.task_wise_fusion import TaskWiseMergedModel, get_task_wise_weights

    learned = {}
    for level in LEVELS:
        models = [net(p) for p in experts]
        if level == "task":
            module = TaskWiseMergedModel(get_task_wise_weights(N, 0.3), net(base), models, clamp_weights=False)
        else:
            module = LayerWiseMergedModel(
                get_layer_wise_weights(N, len(base), 0.3), net(base), models, clamp_weights=False
            )
        adam = torch.optim.Adam([module.merge_weight], lr=1e-2)
        for _ in range(10):
            module.merge_weights()
            loss = sum(entropy_loss(cosine_logits(module, x, head)) for x, head in zip(inputs, heads, strict=True))
            adam.zero_grad()
            loss.backward()
            adam.step()
        lam = module.merge_weight.detach()
        names = [name for name, _ in net(base).named_parameters()]
        learned[f"adamerging {level}"] = {k: lam if level == "task" else lam[:, i] for i, k in enumerate(names)}
    return learned


def surgery(base, experts, inputs, heads):
    from fusion_bench.models.surgery.surgerymodelwrapper import SurgeryModelWrapper

    torch.manual_seed(0)
    wrapper = SurgeryModelWrapper(net(base), ["task"], projection_dim=DIM, hidden_dim=3)
    down, up = wrapper.collect_trainable_params()
    start = {"down": down.detach().clone(), "up": up.detach().clone()}
    adam = torch.optim.Adam([down, up], lr=1e-2)
    z_n = F.normalize(net(experts[0])(inputs[0]), dim=-1).detach()
    for _ in range(20):
        z, _, _ = wrapper.compute_surgery_features(lambda m: F.normalize(m(inputs[0]), dim=-1), "task")
        adam.zero_grad()
        F.l1_loss(z, z_n).backward()
        adam.step()
    return {"surgery start": start, "surgery": {"down": down.detach(), "up": up.detach()}}


def main():
    from safetensors.torch import save_file

    given = problem()
    base, experts, inputs, heads = given
    results = {"base": base, "inputs": dict(enumerate(inputs)), "heads": dict(enumerate(heads))}
    results |= {f"expert {n}": params for n, params in enumerate(experts)}
    for method in (fisher, regmean, regmean_pp, adamerging, surgery):
        results |= method(*given)
    tensors = {f"{call}|{k}": t.detach().clone().contiguous() for call, ts in results.items() for k, t in ts.items()}
    made_by = " ".join(f"{name}=={version(name)}" for name in ("fusion-bench", "torch"))
    save_file(tensors, GOLDEN / "fusion_bench_data.safetensors", metadata={"made_by": made_by})


if __name__ == "__main__":
    main()
