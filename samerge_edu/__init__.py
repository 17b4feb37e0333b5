"""samerge_edu: model merging, taught by code short enough to read.

The package in the order of its picture (docs/architecture.md): params -> saliency -> masks -> transforms
-> merges -> params.add -> evaluate. In a notebook everything a lesson needs hangs on one name:

    import samerge_edu as se
    lab = se.start("01")

`import samerge_edu` itself loads nothing heavy: each name below is imported when it is first used.
"""

from importlib import import_module

__version__ = "0.1.0"
REPOSITORY = "https://github.com/samerge-edu/samerge_edu"
TAG = f"v{__version__}"
BRANCH = "main"  # where links to notebooks lead: a branch is there before the first tag is, and after the last

HOME = {  # public name -> the module it lives in
    "Params": "params",
    "LazyParams": "files",
    "load_params": "files",
    "save_params": "files",
    "split_buffers": "params",
    "task_vectors": "params",
    "lazy_task_vectors": "params",
    "add": "params",
    "flatten": "params",
    "unflatten": "params",
    "pipe": "params",
    "METHODS": "methods",
    "merge": "merging",
    "module_flow": "flow",
    "check_method": "contract",
    "load_suite": "suites",
    "start": "course.start",
    "check": "course.verdicts",
    "settle": "course.verdicts",
    "hint": "course.verdicts",
    "progress": "course.progress",
    "quiz": "course.quizzes",
    "answer": "course.quizzes",
    "show": "course.bands",
    "claim": "course.claims",
    "figure": "course.figures",
    "explore": "course.figures",
}
# every method under its own name: se.ties, se.lwptv, se.sa_merging
TRANSFORMS = "breadcrumbs dare della elect free_fr lines lwptv sa_lora sa_merging sta trim"
MERGES = (
    "acm actmat average consensus emr fisher knots localize_and_stitch magmax pcb regmean regmean_pp svc tact "
    "task_arithmetic ties tsv_m wudi"
)
HOME |= {name: f"transforms.{name}" for name in TRANSFORMS.split()} | {
    name: f"merges.{name}" for name in MERGES.split()
}
HOME |= {"iso_c": "merges.iso", "iso_cts": "merges.iso", "wudi_flow": "merges.wudi", "wudi_optimum": "merges.wudi"}
SUBPACKAGES = ("transforms", "merges", "suites", "adaptation", "ensembles", "studies", "course")
__all__ = [*HOME, *SUBPACKAGES]


def __getattr__(name: str):
    """Import on first use (PEP 562); afterwards the name is an ordinary attribute."""
    if name in HOME:
        value = getattr(import_module(f"{__name__}.{HOME[name]}"), name)
    elif name in SUBPACKAGES:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
