"""A sweep on paper: what do so many merges and evaluations of a large model cost on so many GPUs?

    python tests/benchmarks/estimate_sweep.py [--experts 20] [--methods 36] [--settings 200] [--gpus 1 8 64] ...

Bytes follow from the model's size. Every rate is an argument, with its source beside it below: replace those that are
assumed by what your machine does (bench_merges.py --threads, the encoder's images a second, `dd`).
"""

import argparse

MODELS = {  # parameters of the image tower; multiply-adds of one image of 224 x 224
    "ViT-B-32": (87.8e6, 4.4e9),
    "ViT-L-14": (304e6, 81e9),
}
RATES = {  # name: (default, what it is)
    "flops": (300e12, "FLOP/s that a GPU reaches in bfloat16; assumed, half of an H100's or less"),
    "memory": (2e12, "bytes/s that a GPU's memory moves; assumed"),
    "link": (20e9, "bytes/s from host to GPU; assumed"),
    "disk": (2e9, "bytes/s of the shared disk, which every node of 8 GPUs reads once; assumed"),
    "passes": (10.0, "how often a merge reads its experts; SA-Merging (T = 10) is the heaviest of the data-free"),
    "images": (20_000, "images of one evaluation: a thousand of each task"),
    "lams": (1.0, "scales that are evaluated of one merge; the settings hold them already"),
}


def estimate(model, experts, methods, settings, gpus, rates):
    """Seconds and bytes of the whole sweep on so many GPUs, part by part."""
    parameters, flop = MODELS[model]
    runs = methods * settings
    checkpoint = 4 * parameters
    return {
        "runs": runs,
        "experts, once a GPU (GB)": (experts + 1) * checkpoint / 1e9,
        "results as JSON lines (MB)": runs * 2e3 / 1e6,
        "every merged model, if kept (TB)": runs * checkpoint / 1e12,
        "load the experts (s)": (experts + 1) * checkpoint * (max(1, gpus / 8) / rates["disk"] + 1 / rates["link"]),
        "merge (s)": runs / gpus * rates["passes"] * experts * checkpoint / rates["memory"],
        "encode (s)": runs / gpus * rates["lams"] * rates["images"] * 2 * flop / rates["flops"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="ViT-L-14")
    for name, default in {"experts": 20, "methods": 36, "settings": 200}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--gpus", type=int, nargs="*", default=[1, 8, 64])
    for name, (default, what) in RATES.items():
        parser.add_argument(f"--{name}", type=float, default=default, help=what)
    a = vars(parser.parse_args())
    rates = {name: a[name] for name in RATES}
    columns = [estimate(a["model"], a["experts"], a["methods"], a["settings"], n, rates) for n in a["gpus"]]
    print(f"| {a['model']}, {a['experts']} experts | " + " | ".join(f"{n} GPU" for n in a["gpus"]) + " |")
    print("|---|" + "---|" * len(columns))
    for part in columns[0]:
        print(f"| {part} | " + " | ".join(f"{column[part]:,.0f}" for column in columns) + " |")


if __name__ == "__main__":
    main()
