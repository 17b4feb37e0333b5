"""Damaged and hostile files: is each either refused in plain words, or read as what it is?

    python tests/fuzz_files.py [--models 7000] [--adapters 4000] [--seed 0]      # prints the counts; exit code 1 if bad

Every case is one file, or one adapter's folder, changed at random. What must not happen:

    foreign   an exception that is no ValueError (for a file that is not there: FileNotFoundError)
    nameless  a ValueError that does not say which file
    silent    accepted, though another reader (safetensors' own, PEFT's types, the formula) finds something else in it
    broken    a file written from it that cannot be read, a good file lost, half a file left behind
    slow      ten seconds or more for one small file

`test_fuzz.py` runs a few hundred of these with another seed each week's day; the numbers in the notes are the script's.
"""

import argparse
import json
import math
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from beartype.door import is_bearable

from samerge_edu.files import LazyParams, load_params
from samerge_edu.lora import CONFIG, WEIGHTS, read_peft
from samerge_edu.merges.average import average
from samerge_edu.params import task_vectors
from samerge_edu.streaming import merge_to_file
from samerge_edu.suites.published.hub import open_safetensors

SECONDS = 10.0

# ---------------------------------------------------------------------------- models


def good_model() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return {"w": torch.randn(3, 4, generator=g), "b": torch.randn(4, generator=g).half(), "c": torch.randn(2, 2, 2)}


def damaged(whole: bytes, rng: random.Random) -> bytes:
    """A safetensors file with something wrong, or changed, in its length, header, names, types, places or numbers."""
    size = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + size]), whole[8 + size :]

    def put_together(header: Any, data: bytes = data, length: int | None = None) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return (len(text) if length is None else length).to_bytes(8, "little") + text + data

    def flipped(content: bytes, n: int) -> bytes:
        content = bytearray(content)
        for _ in range(n):
            content[rng.randrange(len(content))] = rng.randrange(256)
        return bytes(content)

    name = rng.choice([n for n in header if n != "__metadata__"])
    junk = rng.choice([None, True, -1, 0, 2**63, 2**70, 1.5, "x", [], {}, [1], [-1, 4], "F32", ["3", 4], {"a": 1}])
    kind = rng.choice(["F64", "F32", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "F8_E5M2", "C64", "U64", "F4", "Q9", ""])
    places = [rng.choice([0, 1, 8, 48, 10**6, 2**62]) for _ in range(2)]
    changes: list[Callable[[], bytes]] = [
        lambda: whole[: rng.randrange(len(whole))],
        lambda: whole + flipped(b"\0" * rng.randrange(1, 40), 5),
        lambda: flipped(whole, rng.randrange(1, 5)),
        lambda: flipped(whole[: 8 + size], rng.randrange(1, 4)) + data,
        lambda: put_together(header, flipped(data, rng.randrange(1, 9))),
        lambda: put_together(header, data.replace(data[:4], b"\x00\x00\xc0\x7f", 1)),  # NaN
        lambda: put_together(header, length=rng.choice([0, 1, size - 1, size + 1, 10**6, 2**40, 2**63])),
        lambda: put_together(header | {name: junk}),
        lambda: put_together(header | {name: header[name] | {"dtype": kind}}),
        lambda: put_together(header | {name: header[name] | {"dtype": junk}}),
        lambda: put_together(header | {name: header[name] | {"shape": junk}}),
        lambda: put_together(
            header | {name: header[name] | {"shape": [rng.choice([0, 1, 3, 12, 2**61]) for _ in "ab"]}}
        ),
        lambda: put_together(header | {name: header[name] | {"data_offsets": places}}),
        lambda: put_together(header | {name: header[name] | {"data_offsets": junk}}),
        lambda: put_together({k: v for k, v in header.items() if k != name}),
        lambda: put_together(header | {"more": header[name]}),  # two tensors in one place
        lambda: put_together(header | {"__metadata__": junk}),
        lambda: put_together(json.dumps(header).replace(f'"{name}"', '"\\ud800"').encode()),
        lambda: put_together(json.dumps(header).replace('"w"', '"b"').encode()),  # one name twice
        lambda: put_together(b'{"a":' * 5000 + b"1" + b"}" * 5000),
        lambda: rng.randbytes(rng.randrange(200)),
        lambda: b"",
    ]
    return rng.choice(changes)()


def fuzz_model(folder: Path, base: dict[str, torch.Tensor], whole: bytes, rng: random.Random) -> Iterator[str]:
    """The verdicts on one damaged file, read in five ways."""
    file, out, before = (
        folder / "damaged.safetensors",
        folder / "out.safetensors",
        (folder / "out.safetensors").read_bytes(),
    )
    content = damaged(whole, rng)
    file.write_bytes(content)
    try:
        theirs = safetensors.torch.load(content)
        expected = {k: v for k, v in theirs.items() if v.is_floating_point() and v.element_size() > 1}
    except Exception:  # the library refuses in many ways
        expected = None

    def merge() -> None:
        merge_to_file(base, [LazyParams(file)], average, out, lam=1.0, per_tensor=rng.random() < 0.5, recipe="fuzz")

    readers: dict[str, Callable[[], Any]] = {
        "LazyParams": lambda: dict(LazyParams(file)),
        "load_params": lambda: load_params(file),
        "open_safetensors": lambda: dict(open_safetensors(file)),
        "task_vectors": lambda: task_vectors(base, [LazyParams(file)]),
        "merge_to_file": merge,
    }
    for name, read in readers.items():
        result, verdict = outcome(read, file.name if name in ("LazyParams", "load_params", "open_safetensors") else "")
        if verdict == "accepted":
            if name in ("LazyParams", "load_params", "open_safetensors"):
                right = expected is not None and result.keys() == expected.keys()
                right = right and all(same(result[k], expected[k]) for k in expected)
            else:  # only a whole, finite model of the base's structure can be merged
                right = expected is not None and {k: (v.shape, v.dtype) for k, v in expected.items()} == {
                    k: (v.shape, v.dtype) for k, v in base.items()
                }
                right = right and all(v.isfinite().all() for v in expected.values())
            verdict = "accepted" if right else "silent"
        if name == "merge_to_file":
            if verdict == "accepted":
                if not all(v.isfinite().all() for v in load_params(out).values()):
                    verdict = "broken"
                out.write_bytes(before)
            elif out.read_bytes() != before:
                verdict = "broken"
            if list(folder.glob("*.part")):
                verdict = "broken"
        yield verdict


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))


# ---------------------------------------------------------------------------- adapters

MODULES = {"a.fc": (5, 6, 3), "fc": (4, 5, 2), "block.0.q": (3, 4, 3)}  # (out, in, r)
PLAIN = {
    **{"peft_type": "LORA", "r": 3, "lora_alpha": 6, "rank_pattern": {"^fc": 2}, "alpha_pattern": {}, "bias": "none"},
    **{"use_rslora": False, "use_dora": False, "modules_to_save": None, "target_modules": ["fc", "q"]},
    **{"revision": None, "lora_dropout": 0.0, "init_lora_weights": True, "fan_in_fan_out": False},
}  # fmt: skip
HOSTILE = (r"(a+)+$", r"((a|b|\.|f|c)*)*x", r"(.*)*(.*)*(.*)*x")
VALUES = [
    *[None, True, False, 0, 1, 2, 3, -1, 3.0, 2.5, math.nan, math.inf, -math.inf, 1e308, 10**400, "", "3", "false"],
    *["true", "none", "all", "LORA", "LOHA", "pissa", "olora", "gaussian", "pissa_niter_4"],
    *[[], [1], ["fc"], [None], [[0, 2]], {}],
    *[{"fc": 2}, {"fc": "2"}, {"fc": math.nan}, {"fc": None}, {"(": 2}, {"[": 1}, {"(?P<x": 1}, {"*": 2}, {"fc": 2.0}],
    *[{"fc": True}, {"": 2}, {".*": 3}, {"x" * 5000: 2}, {"(a" * 60 + ")" * 60: 1}, {"q|fc": -1}],
]  # fmt: skip
TYPES = {  # what PEFT's own configuration says a field may be, written down so that the script runs without PEFT
    **dict.fromkeys(("use_rslora", "inference_mode", "use_dora", "fan_in_fan_out", "lora_bias"), bool | None),
    **dict.fromkeys(("target_modules", "exclude_modules", "layers_pattern"), str | list[str] | None),
    **dict.fromkeys(("revision", "task_type", "base_model_name_or_path"), str | None),
    **{"r": int, "lora_alpha": int | float, "lora_dropout": int | float | None, "peft_type": str, "bias": str | None},
    **{"rank_pattern": dict[str, int] | None, "alpha_pattern": dict[str, int | float] | None},
    **{"modules_to_save": list[str] | None, "init_lora_weights": bool | str | None, "layer_replication": list | None},
    **{"alora_invocation_tokens": list[int] | None, "layers_to_transform": int | list[int] | None},
}
ONLY_UNSET = (
    "use_dora",
    "fan_in_fan_out",
    "lora_bias",
    "modules_to_save",
    "layer_replication",
    "alora_invocation_tokens",
)


def fuzz_adapter(folder: Path, rng: random.Random) -> Iterator[str]:
    """The verdict on one adapter whose configuration, tensors or file were changed at random."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    tensors: dict[str, torch.Tensor] = {}
    for module, (out, fan_in, r) in MODULES.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = torch.randn(r, fan_in)
        tensors[f"base_model.model.{module}.lora_B.weight"] = torch.randn(out, r)
    config: Any = dict(PLAIN)
    for _ in range(rng.choice([0, 1, 1, 1, 2])):
        field = rng.choice([*config, *TYPES, "unknown_field"])
        config[field] = rng.choice(VALUES)
        if rng.random() < 0.1:
            del config[field]
    if rng.random() < 1 / 500:
        config["rank_pattern"] = {rng.choice(HOSTILE): 3}
        tensors = {name.replace("a.fc", "a" * 40 + ".fc"): x for name, x in tensors.items()}
    if rng.random() < 0.4:
        damage_tensors(tensors, rng)
    if rng.random() < 0.02:
        config = rng.choice([[], [config], 3, "text", None, {}])
    text = json.dumps(config)
    if rng.random() < 0.1:
        at = rng.randrange(len(text))
        text = rng.choice([text[:at], text[:at] + rng.choice('{}[],:"0x\ud800') + text[at:], "[" * 10**5, ""])
    (folder / CONFIG).write_bytes(text.encode("utf-8", "surrogatepass"))
    safetensors.torch.save_file(tensors, folder / WEIGHTS)
    if rng.random() < 0.1:
        (folder / WEIGHTS).write_bytes(damaged((folder / WEIGHTS).read_bytes(), rng))
    if rng.random() < 0.02:
        (folder / rng.choice([CONFIG, WEIGHTS])).unlink()

    adapter, verdict = outcome(lambda: read_peft(folder), folder.name)
    yield "silent" if verdict == "accepted" and not as_it_says(folder, adapter) else verdict


def damage_tensors(tensors: dict[str, torch.Tensor], rng: random.Random) -> None:
    name = rng.choice(list(tensors))
    x = tensors[name]
    hurt = x.clone()
    hurt.view(-1)[rng.randrange(x.numel())] = rng.choice([math.nan, math.inf, -math.inf])
    changed = [hurt, x.long(), x.half(), x.double(), x.T.contiguous(), x[None], x[:1], torch.empty(0, 0), x > 0]
    tensors[name] = rng.choice([*changed, x.to(torch.complex64)])
    if rng.random() < 0.5:
        new = name.replace(
            "lora_A", rng.choice(["lora_B", "lora_C", "lora_magnitude_vector", "lora_embedding_A", "lora_a"])
        )
        tensors[rng.choice([new, new.replace(".weight", ".bias"), "extra", "", name.upper()])] = tensors.pop(name)


def as_it_says(folder: Path, adapter: dict[str, Any]) -> bool:
    """The slow way: types by beartype, factors by safetensors, ranks and scales by trying every module."""
    import regex

    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    stored = safetensors.torch.load_file(folder / WEIGHTS)
    for field, value in config.items():
        if isinstance(value, bool) and TYPES.get(field) in (int, int | float, int | float | None):
            return False
        if not is_bearable(value, TYPES.get(field, None)) and value not in ([], {}, False):
            return False
        if field in ONLY_UNSET and value not in (None, False, []):
            return False
    for patterns in ("rank_pattern", "alpha_pattern"):
        if any(isinstance(x, bool) or not math.isfinite(x) for x in (config.get(patterns) or {}).values()):
            return False
    if config["peft_type"] != "LORA" or config.get("bias") not in (None, "none"):
        return False
    if config.get("init_lora_weights") not in (None, True, False, "gaussian"):
        return False
    if len(stored) != 2 * len(adapter):
        return False
    for key, (A, B, scale) in adapter.items():
        module = key.removesuffix(".weight")
        theirs = [stored.get(f"{prefix}{module}.lora_{x}.weight") for x in "AB" for prefix in ("base_model.model.",)]
        if any(x is None for x in theirs) or not (same(A, theirs[0]) and same(B, theirs[1])):
            return False
        own = {}
        for common, patterns in (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern")):
            named = (config.get(patterns) or {}).items()
            hits = [x for pattern, x in named if regex.match(rf"(.*\.)?({pattern})$", module, timeout=5)]
            own[common] = hits[0] if hits else config[common]
        r, alpha = own["r"], own["lora_alpha"]
        if A.shape[0] != r or not math.isclose(
            scale, alpha / (math.sqrt(r) if config.get("use_rslora") is True else r)
        ):
            return False
        if not (math.isfinite(scale) and A.isfinite().all() and B.isfinite().all() and A.dtype == B.dtype):
            return False
    return True


# ---------------------------------------------------------------------------- verdicts


def outcome(read: Callable[[], Any], file: str) -> tuple[Any, str]:
    """What `read` returned, and the word for how it went; foreign exceptions are shown."""
    clock = time.perf_counter()
    try:
        result, verdict = read(), "accepted"
    except FileNotFoundError:
        result, verdict = None, "refused"
    except ValueError as e:
        result, verdict = None, "refused" if file in str(e) else "nameless"
    except Exception as e:
        result, verdict = None, "foreign"
        print(f"foreign: {type(e).__name__}: {str(e)[:200]}", file=sys.stderr)
    if time.perf_counter() - clock > SECONDS:
        verdict = "slow"
    return result, verdict


def fuzz(models: int, adapters: int, seed: int) -> dict[str, Counter]:
    """{"models": verdicts (five a file), "adapters": verdicts}; the same for the same seed."""
    rng, counts = random.Random(seed), {"models": Counter(), "adapters": Counter()}
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder, base = Path(scratch), good_model()
        whole = safetensors.torch.save(base, {"format": "pt"})
        merge_to_file(base, [base], average, folder / "out.safetensors", lam=1.0, per_tensor=True, recipe="before")
        for case in range(models):
            verdicts = list(fuzz_model(folder, base, whole, rng))
            counts["models"].update(verdicts)
            if bad := BAD & set(verdicts):
                shutil.copy(folder / "damaged.safetensors", KEEP / f"{seed}-{case}.safetensors") if KEEP else None
                print(f"model {case} of seed {seed}: {sorted(bad)}", file=sys.stderr)
        for case in range(adapters):
            verdicts = list(fuzz_adapter(folder / "adapter", rng))
            counts["adapters"].update(verdicts)
            if bad := BAD & set(verdicts):
                print(f"adapter {case} of seed {seed}: {sorted(bad)}", file=sys.stderr)
                if (folder / "adapter" / CONFIG).exists():
                    print("   ", (folder / "adapter" / CONFIG).read_bytes()[:600], file=sys.stderr)
    return counts


BAD = {"foreign", "nameless", "silent", "broken", "slow"}
KEEP: Path | None = None  # a folder for the files that did harm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=7000)
    parser.add_argument("--adapters", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    clock = time.perf_counter()
    counts = fuzz(options.models, options.adapters, options.seed)
    for what, tally in counts.items():
        number = options.models if what == "models" else options.adapters
        words = ", ".join(f"{tally[word]} {word}" for word in ("accepted", "refused", *sorted(BAD)))
        print(f"{number} {what}{' x 5 readers' if what == 'models' else ''}: {words}")
    print(f"{time.perf_counter() - clock:.0f} s, safetensors {safetensors.__version__}, torch {torch.__version__}")
    sys.exit(any(tally[word] for tally in counts.values() for word in BAD))


if __name__ == "__main__":
    main()
