"""Does some test go red for every small mistake? `make mutate`, or  python tests/mutate.py [files] [--jobs N]

Changes one operator, constant, condition or statement at a time in a copy of the arithmetic and of what reads, writes
and measures models (GROUND), of the methods, of what learns and of what keeps more than one model (ROOMS); runs the
test files that name the changed module, and counts how many changes are noticed. Exits with 1 below 95 %, and for
survivors that EQUIVALENT does not explain. Linux or macOS (it forks).

Every mutant runs in a fork of one process that has imported torch already: a second each, not ten.
"""

import argparse
import ast
import importlib
import json
import os
import re
import resource
import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "samerge_edu"
TARGET = 0.95
GROUND = (
    *("params", "files", "masks", "matrices", "least_squares", "saliency", "lora"),
    *("evaluate", "streaming", "suites/published/names", "suites/published/clip_vit"),
    *("statistics", "osrm", "sparse", "int8"),
)
ROOMS = ("transforms", "merges", "adaptation", "ensembles", "alignment")

# (file, line as written, change): why no test can notice
EQUIVALENT: dict[tuple[str, str, str], str] = {
    (
        "streaming.py",
        'config = json.dumps(published.config, indent=2) + "\\n"',
        "2 -> 3",
    ): "how far a file that a program reads is indented",
    (
        "least_squares.py",
        "times = tau_m.norm().item() / longest if longest > 0 else 0.0",
        "0.0 -> 1.0",
    ): "experts of zeros: neither is more than TOO_LONG times",
    (
        "least_squares.py",
        "if len(C) and not failed and pivots.min() > 1e-4 * pivots.max():  # L L^T = C: 1e-8 in C",
        "Gt -> GtE",
    ): "a pivot at the very limit: both ways to divide agree there",
    (
        "merges/acm.py",
        "rho = ((a * b).sum(dim=0) / size).where(size > 0, 1.0)",
        "1.0 -> 2.0",
    ): "rho^2 is cut at 1 - 1e-6 in the next line",
    (
        "merges/emr.py",
        "return tau, tau.sum(dim=0).sign()",
        ".sum -> .mean",
    ): "the mean has the sign of the sum",
    (
        "merges/fisher.py",
        "w = torch.tensor([1.0] * N if weights is None else list(weights), dtype=torch.float64)",
        "1.0 -> 2.0",
    ): "only ratios of weights count",
    (
        "merges/fisher.py",
        "if len(w) != N or (w < 0).any() or not w.sum() > 0:",
        ".sum -> .mean",
    ): "the mean has the sign of the sum",
    (
        "merges/fisher.py",
        "w = w / (length + floor).where(length + floor > 0, 1.0)",
        "1.0 -> 2.0",
    ): "the weight of a Fisher of zeros: 0 divided by either",
    (
        "merges/fisher.py",
        "w = w / w.sum()",
        ".sum -> .mean",
    ): "only ratios of weights count",
    (
        "merges/fisher.py",
        "tau_m[key] = ((F * tau).sum(dim=0) / total.where(known, 1)).where(known, tau.mean(dim=0)).to(dtype)",
        "1 -> 2",
    ): "where no expert has any: the mean takes its place",
    (
        "merges/sewa.py",
        "u = torch.rand(N, generator=generator, device=generator.device).clamp(1e-6, 1 - 1e-6).to(device)",
        "1 -> 2",
    ): "no upper limit: torch.rand stays below 1 anyway, this is for its rounding",
    (
        "merges/sewa.py",
        "u = torch.rand(N, generator=generator, device=generator.device).clamp(1e-6, 1 - 1e-6).to(device)",
        "Sub -> Add",
    ): "no upper limit: torch.rand stays below 1 anyway, this is for its rounding",
    (
        "merges/sewa.py",
        "u = torch.rand(N, generator=generator, device=generator.device).clamp(1e-6, 1 - 1e-6).to(device)",
        "1e-06 -> 2e-06",
    ): "one draw in a million: keeps logit finite, nothing else",
    (
        "merges/svc.py",
        "s = ((a * a_m).sum(dim=-1) / length.where(length > 0, 1)).clamp(min=least)  # (N, r)",
        "1 -> 2",
    ): "an expert that is silent along u_r: 0 divided by either",
    (
        "transforms/cat.py",
        "B.append(vector[:, first:][:, value[first:] > 1e-12 * value.abs().max()])",
        "1e-12 -> 2e-12",
    ): "far above rounding, far below a conflict",
    (
        "transforms/cat.py",
        "others = torch.cat([B[k] for k in range(N) if k != i] or [B[i][:, :0]], dim=1)",
        "0 -> 1",
    ): "one expert alone has no conflict: its B is empty",
    (
        "transforms/cat.py",
        "Q = Q[:, S > 1e-6]  # two tasks may protect the same direction",
        "1e-06 -> 2e-06",
    ): "S is about 1, or 0 but for rounding",
    (
        "transforms/cat.py",
        "Q = Q[:, S > 1e-6]  # two tasks may protect the same direction",
        "Gt -> GtE",
    ): "S is about 1, or 0 but for rounding",
    (
        "merges/wudi.py",
        "c = c.where(c > 1e-12 * c[-1:], 1.0)  # directions that no expert has: there D Q is 0",
        "1.0 -> 2.0",
    ): "0 divided by any number but 0",
    (
        "merges/wudi.py",
        "weight = tau.square().sum(dim=(1, 2)).reciprocal().nan_to_num(posinf=0)  # 1 / ||tau_n||_F^2, or 0",
        "0 -> 1",
    ): "the weight of an expert of zeros: 0 times any number",
    (
        "transforms/della.py",
        "m = torch.rand(value.shape, generator=lots, device=lots.device).to(value.device) < p",
        "Lt -> LtE",
    ): "a draw that equals the probability: one in 16 million",
    (
        "transforms/della.py",
        "order = magnitude.argsort(dim=-1, stable=True)",
        "True -> False",
    ): "PyTorch's sort on the CPU is stable anyway; this is for the others",
    (
        "transforms/lines.py",
        "alpha = float(size_of_sum / size / len(taus)) if size > 0 else 0.0",
        "0.0 -> 1.0",
    ): "the scale of an update of zeros",
    (
        "transforms/lwptv.py",
        'order = torch.randperm(len(names), generator=own_generator(shuffle, "layers", 0)).tolist()',
        "0 -> 1",
    ): "another draw for each seed",
    (
        "transforms/lwptv.py",
        "return {key: torch.full_like(stacked(taus, key), eta == 0, dtype=torch.bool) for key in taus[0]}",
        "0 -> 1",
    ): "of taus[0]: all have the same names, and masks are looked up by name",
    ("transforms/lwptv.py", "for key in taus[0]:", "0 -> 1"): "the same, in the loop over parameters",
    (
        "transforms/lwptv.py",
        "return {key: _combine(keep(key), mask_rule) for key in taus[0]}",
        "0 -> 1",
    ): "the same names again",
    (
        "transforms/lwptv.py",
        'hint = f"; {eta:g} % is {eta / 100:g}" if 1 < eta <= 100 else ""',
        "Lt -> LtE",
    ): "eta = 1 is allowed and never gets here",
    (
        "transforms/sa_lora.py",
        "keep = math.ceil((1 - p) ** t * len(A) * (1 - 1e-12))",
        "1e-12 -> 2e-12",
    ): "far below a rank, far above rounding",
    (
        "transforms/sa_lora.py",
        "gamma = (u * B * (theta(key).sign() @ (x * A).T)).sum(dim=0)",
        ".sum -> .mean",
    ): "one factor for all ranks of a layer, which are ranked among themselves",
    (
        "transforms/sa_lora.py",
        "eta += s * ((B.T @ working(B_i)) * (A @ working(A_i).T)).sum(dim=1)",
        "Add -> Sub",
    ): "the sign of eta: S is |gamma eta|",
    (
        "merges/ties.py",
        "gamma = tau_hat.sum(dim=0).sign()  # (b,)  Step 2: elect",
        ".sum -> .mean",
    ): "the mean has the sign of the sum",
    (
        "merges/pcb.py",
        "return weighted / total.clamp(min=1e-12)",
        "1e-12 -> 2e-12",
    ): "where no expert has a weight: 0 divided by either",
    (
        "transforms/sa_merging.py",
        "quota = math.ceil((1 - p) ** t * sum(tau_n[key].numel() for key in group) * (1 - 1e-12))",
        "1e-12 -> 2e-12",
    ): "far below an entry, far above rounding",
    (
        "transforms/sa_merging.py",
        "if s.sum().isnan() and (s.isnan() & left[key]).any():",
        ".sum -> .mean",
    ): "NaN either way; a glance before the closer look",
    (
        "merges/peft_lora.py",
        "sign = [-1 if w < 0 else 1 for w in weights]",
        "Lt -> LtE",
    ): "the sign of an adapter of weight 0",
    (
        "merges/knots.py",
        "U, S, Vt = torch.linalg.svd(torch.cat(updates, dim=1).double(), full_matrices=False)",
        "False -> True",
    ): "the first k directions are the same, the others are cut off: only slower",
    (
        "transforms/free_fr.py",
        "loudness = tau.abs().mean(dim=(1, 2), keepdim=True)  # (N, 1, 1)",
        ".mean -> .sum",
    ): "only ratios between experts count, and all have the same size",
    (
        "transforms/free_fr.py",
        "tau = tau * (loudness.max() / loudness).nan_to_num(posinf=0)",
        "0 -> 1",
    ): "the factor of an expert of zeros: 0 times any number",
    (
        "adaptation/adamerging.py",
        "lambda logits, _: sum((entropy(z) for z in logits), torch.tensor(0.0)),",
        "0.0 -> 1.0",
    ): "where a sum begins of which only the gradient counts",
    (
        "adaptation/adamerging.py",
        "log_p = logits.log_softmax(dim=-1)",
        "no USub",
    ): "of two axes the last is 1",
    (
        "adaptation/adamerging.py",
        "return -(log_p.exp() * log_p).sum(dim=-1).mean()",
        "no USub",
    ): "of two axes the last is 1",
    (
        "adaptation/atlas.py",
        "(F.cross_entropy(z, y) for z, y in zip(logits, labels, strict=True)), torch.tensor(0.0)",
        "0.0 -> 1.0",
    ): "where a sum begins of which only the gradient counts",
    (
        "ensembles/ensemble.py",
        "return F.normalize(torch.cat(z).float(), dim=-1)",
        "no USub",
    ): "of two axes the last is 1",
    (
        "ensembles/free_merging.py",
        "places = at.to(torch.int32 if len(x) < 2**31 else torch.int64)",
        "2 -> 3",
    ): "a model of two thousand million entries",
    (
        "ensembles/free_merging.py",
        "places = at.to(torch.int32 if len(x) < 2**31 else torch.int64)",
        "31 -> 32",
    ): "a model of two thousand million entries",
    (
        "ensembles/free_merging.py",
        "places = at.to(torch.int32 if len(x) < 2**31 else torch.int64)",
        "Lt -> LtE",
    ): "a model of two thousand million entries",
    (
        "ensembles/localize_and_stitch.py",
        "S = {key: bias * (2.0 * keep(key)[0].to(suite.device) - 1) for key in tau}",
        "Mult -> Div",
    ): "bias times or divided by 1 or -1",
    (
        "ensembles/localize_and_stitch.py",
        'masks.append({key: (s > 0) & ("positional_embedding" not in key) for key, s in S.items()})',
        "Gt -> GtE",
    ): "a learned score that is exactly 0",
    (
        "ensembles/router.py",
        "at_0, at_1 = (module(torch.full((1, len(b)), x))[0] for x in (0.0, 1.0))",
        "1 -> 2",
    ): "two equal rows, of which the first is taken",
    (
        "ensembles/twin_merging.py",
        "M = tau[key].flatten(1) if tau[key].ndim > 1 else tau[key]  # (out, rest)",
        "1 -> 2",
    ): "to flatten a matrix from its second axis on leaves it as it is",
    (
        "ensembles/twin_merging.py",
        "elif M.ndim > 1 and rank * sum(M.shape) < M.numel():",
        "Gt -> GtE",
    ): "of a vector rank * d is never below d",
    (
        "osrm.py",
        "G = torch.stack([gram[key].double() for gram in grams]).sum(dim=0)",
        ".sum -> .mean",
    ): "a common scale has no effect on directions",
    (
        "sparse.py",
        "scales = torch.tensor([tau[key].abs().max().item() / 127 if tau[key].numel() else 0.0 for key in tau])",
        "0.0 -> 1.0",
    ): "the scale of a tensor without entries",
    (
        "sparse.py",
        "whole = [(tau[key].float().cpu() / (s or 1)).round().flatten() for key, s in zip(tau, scales.tolist(), strict=True)]",  # noqa: E501
        "1 -> 2",
    ): "a tensor of zeros: 0 divided by either",
    (
        "int8.py",
        "Q = (rows / s.where(s > 0, 1)[:, None]).round().clamp(-127, 127).to(torch.int8)",
        "1 -> 2",
    ): "a row of zeros: 0 divided by either",
    (
        "int8.py",
        "Q = (rows / s.where(s > 0, 1)[:, None]).round().clamp(-127, 127).to(torch.int8)",
        "Gt -> GtE",
    ): "0 / 0 is NaN, which as int8 is 0 on this CPU: no promise elsewhere",
    (
        "statistics.py",
        "return F.normalize(functional_call(suite.visual, dict(theta), (images,)), dim=-1)",
        "no USub",
    ): "of two axes the last is 1",
    (
        "statistics.py",
        "return logits(suite, embed(suite, theta, x), task).log_softmax(dim=-1)",
        "no USub",
    ): "of two axes the last is 1",
    (
        "statistics.py",
        "super().__init__()",
        "statement -> pass",
    ): "PyTorch's base class keeps nothing that we use; its documentation wants the call",
    (
        "statistics.py",
        "lp, pull = vjp(lambda t, x=x: log_p(t, x)[0], theta)[:2]",
        "2 -> 3",
    ): "vjp gives two things; the cut is for the type checker",
    (
        "statistics.py",
        "Wt = Wt[0] if Wt.ndim == 3 else Wt",
        "0 -> 1",
    ): "one matrix spread over a batch: every layer of it is W",
    (
        "alignment/zipit.py",
        "budget = [int(n // 2 * beta + 1e-4)] * 2",
        "2 -> 3",
    ): "a third budget, of no network",
    (
        "alignment/zipit.py",
        "budget = [int(n // 2 * beta + 1e-4)] * 2",
        "0.0001 -> 0.0002",
    ): "far below one merge, far above rounding",
    (
        "alignment/zipit.py",
        "row = torch.minimum(row, alpha * row) if alpha > 0 else row.clamp(max=-2.0)",
        "2.0 -> 4.0",
    ): "below every correlation either way",
    (
        "alignment/zipit.py",
        "f = f / f.norm(dim=0).clamp(min=1e-12)",
        "1e-12 -> 2e-12",
    ): "a constant unit: 0 divided by either",
    (
        "alignment/weight_matching.py",
        "GAIN = 1e-12",
        "1e-12 -> 2e-12",
    ): "far below any gain, at the rounding of sums in float64",
    (
        "alignment/weight_matching.py",
        "if gained <= GAIN:",
        "LtE -> Lt",
    ): "a gain that equals 1e-12 to the bit",
    (
        "alignment/weight_matching.py",
        "if gain > GAIN:  # of equal orders the old one stays",
        "Gt -> GtE",
    ): "a gain that equals 1e-12 to the bit",
}

SWAPS = {
    **{
        ast.Add: ast.Sub,
        ast.Sub: ast.Add,
        ast.Mult: ast.Div,
        ast.Div: ast.Mult,
        ast.FloorDiv: ast.Mult,
        ast.Pow: ast.Mult,
    },
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.In: ast.NotIn},
}
NAMES = {"min": "max", "max": "min", "sum": "mean", "mean": "sum", "floor": "ceil", "ceil": "floor", "round": "int"}


def mutants(source):
    """(line number, description, changed source) for every change; docstrings and error messages are left alone."""
    for number in range(sum(1 for _ in _changes(ast.parse(source)))):
        tree = ast.parse(source)
        line, description, change = list(_changes(tree))[number]
        change()
        yield line, description, ast.unparse(ast.fix_missing_locations(tree))


def _changes(tree):
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            child.parent = node
    for node in ast.walk(tree):
        if not hasattr(node, "lineno") or _is_text_or_type(node):
            continue

        def becomes(old, new, field, value, node=node):
            return node.lineno, f"{old} -> {new}", lambda: setattr(node, field, value)

        if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in SWAPS:
            swap = SWAPS[type(node.op)]
            yield becomes(type(node.op).__name__, swap.__name__, "op", swap())
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            swap = SWAPS[type(node.ops[0])]
            yield becomes(type(node.ops[0]).__name__, swap.__name__, "ops", [swap(), *node.ops[1:]])
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield becomes(node.value, not node.value, "value", not node.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            other = node.value + 1 if isinstance(node.value, int) else node.value * 2 or 1.0
            yield becomes(node.value, other, "value", other)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
            plus = ast.UnaryOp(ast.UAdd(), node.operand) if isinstance(node.op, ast.USub) else ast.Call(
                ast.Name("bool", ast.Load()), [node.operand], []
            )  # fmt: skip
            yield node.lineno, f"no {type(node.op).__name__}", lambda n=node, p=plus: _replace(n, p)
        elif isinstance(node, (ast.If, ast.IfExp)):
            yield becomes("condition", "not condition", "test", ast.UnaryOp(ast.Not(), node.test))
        elif isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.parent, ast.Call):
            new = {"sum": "max"}.get(node.id, NAMES[node.id])  # there is no built-in mean
            yield becomes(node.id, new, "id", new)
        elif isinstance(node, ast.Attribute) and node.attr in NAMES and isinstance(node.parent, ast.Call):
            yield becomes(f".{node.attr}", f".{NAMES[node.attr]}", "attr", NAMES[node.attr])
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield node.lineno, "statement -> pass", lambda n=node: _replace(n, ast.Pass())


def _is_text_or_type(node):
    while node := getattr(node, "parent", None):
        if isinstance(node, (ast.JoinedStr, ast.Raise, ast.AnnAssign)) or _is_annotation(node):
            return True
        if isinstance(node, ast.keyword) and node.arg == "strict":  # of zip: lists that are equally long anyway
            return True
    return False


def _is_annotation(node):
    owner = getattr(node, "parent", None)
    return (isinstance(owner, ast.arg) and owner.annotation is node) or (
        isinstance(owner, ast.FunctionDef) and owner.returns is node
    )


def _replace(old, new):
    for field, value in ast.iter_fields(old.parent):
        if value is old:
            setattr(old.parent, field, new)
        elif isinstance(value, list) and any(item is old for item in value):
            value[next(i for i, item in enumerate(value) if item is old)] = new


# ---------------------------------------------------------------------------- running the tests


def tests_for(file):
    """The test files that import the module, its own first, then by how often they name it; doctests and properties."""
    *parent, name = file.relative_to(ROOT).with_suffix("").parts
    imports = re.compile(rf"{'.'.join(parent)}\.{name}\b|from {'.'.join(parent)} import .*\b{name}\b")
    texts = {test: test.read_text("utf-8") for test in sorted((ROOT / "tests").glob("*.py")) if test != Path(__file__)}
    found = [test for test in texts if imports.search(texts[test]) and test.name.startswith("test_")]
    found.sort(key=lambda test: (not test.stem.endswith(f"_{name}"), -texts[test].count(name)))
    properties = ROOT / "tests" / "shared_properties.py"
    last = [ROOT / "tests" / "test_shared_properties.py"] if imports.search(texts[properties]) else []
    return [str(path.relative_to(ROOT)) for path in (*found, file, *last)]


def is_green(folder, tests, cpu_seconds, show=False):
    """Run pytest on the copy in a fork; a red test, an error and a loop without end are all noticed."""
    if child := os.fork():
        return os.waitpid(child, 0)[1] == 0
    import pytest

    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    if not show:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not gpu and not browser"]
    code = 1
    try:
        code = int(pytest.main([*arguments, *tests]))
    finally:  # whatever a mutant raises ends here: further up, the parent's folder would be cleared away
        os._exit(0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else code)  # a module without doctests kills nothing


def children_cpu():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def work(jobs, folder, report):
    """Run each (file, line, description, source) of `jobs` in a copy of the repository; one JSON line per survivor."""
    for part in ("samerge_edu", "tests", "data_scripts"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "output"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for other in ROOT.iterdir():  # docs, notebooks, README, which tests read
        if not other.name.startswith(".") and not (folder / other.name).exists():
            (folder / other.name).symlink_to(other)
    limit = {}
    for file, line, description, source in jobs:
        relative, tests = file.relative_to(ROOT), tests_for(file)
        if file not in limit:
            before = children_cpu()
            if not is_green(folder, tests, cpu_seconds=3600, show=True):
                sys.exit(f"{relative}: its tests are red without any change: {' '.join(tests)}")
            limit[file] = int(10 + 5 * (children_cpu() - before))
        original = (folder / relative).read_text("utf-8")
        (folder / relative).write_text(source, "utf-8")
        survived = all(is_green(folder, [test], limit[file]) for test in tests)  # collecting them all takes longer
        (folder / relative).write_text(original, "utf-8")
        text = original.splitlines()[line - 1].strip()
        print(json.dumps([str(relative), line, text, description, survived]), file=report, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="default: GROUND, and all of each of ROOMS")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants at a time")
    arguments = parser.parse_args()
    default = [PACKAGE / f"{name}.py" for name in GROUND]
    default += [file for room in ROOMS for file in sorted((PACKAGE / room).glob("*.py"))]
    files = [file.resolve() for file in arguments.files] or [file for file in default if file.name != "__init__.py"]

    os.environ |= {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    sys.dont_write_bytecode = True  # two mutants a second apart would share one .pyc
    for module in ("open_clip", "pytest", "scipy.linalg", "torch._dynamo"):  # all that takes long to import, once
        importlib.import_module(module)
    import torch

    torch.set_num_threads(1)
    jobs = [(file, *mutant) for file in files for mutant in mutants(file.read_text("utf-8"))]
    if not jobs:
        return print(
            f"nothing to change in {', '.join(file.name for file in files)}: no operator, constant or condition"
        )
    print(f"{len(jobs)} mutants of {len(files)} files with torch {torch.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        workers = []
        for n in range(arguments.jobs):
            folder = Path(scratch) / str(n)
            folder.mkdir()
            if not (worker := os.fork()):
                with open(Path(scratch) / f"{n}.jsonl", "w", encoding="utf-8") as report:
                    work(jobs[n :: arguments.jobs], folder, report)
                os._exit(0)
            workers.append(worker)
        if any(os.waitpid(worker, 0)[1] for worker in workers):
            sys.exit("a worker failed, see above")
        lines = [line for n in range(arguments.jobs) for line in (Path(scratch) / f"{n}.jsonl").open(encoding="utf-8")]

    tally, unexplained = defaultdict(lambda: [0, 0]), []
    for file, line, text, description, survived in sorted(json.loads(one) for one in lines):
        reason = EQUIVALENT.get((file.removeprefix("samerge_edu/"), text, description))
        tally[file][0] += not survived
        tally[file][1] += reason is None or not survived
        if survived and not reason:
            unexplained.append(f"{file}:{line}: {description} in: {text}")
    for file, (killed, counted) in tally.items():
        print(f"{killed:5} of {counted:4} killed  {file}")
    killed, counted = (sum(column) for column in zip(*tally.values(), strict=True))
    print(f"{killed} of {counted} killed: {killed / counted:.1%}", *unexplained, sep="\n")
    sys.exit(killed / counted < TARGET or bool(unexplained))


if __name__ == "__main__":
    main()
