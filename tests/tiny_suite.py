"""A suite small enough for any test: a random two-layer ViT, three ID tasks of unequal size, two OOD tasks."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from open_clip.transformer import VisionTransformer
from torch.func import functional_call
from torch.nn.functional import normalize

from samerge_edu.lora import LoRA, dense
from samerge_edu.params import add
from samerge_edu.suites.suite import Suite


@dataclass
class Task:
    name: str
    kind: str
    classes: list[str]


class TinySuite:
    """The protocol of `samerge_edu.suites`, on random numbers; `encoded` counts the images that were encoded."""

    name = "tiny"
    family = "random numbers"
    validation = "other random numbers"
    attention_heads = 2
    device = torch.device("cpu")
    id_tasks = ("ink", "noise", "land")
    ood_tasks = ("letters", "flags")
    adapters = {}  # noqa: RUF012 - its experts are no LoRA experts
    logit_scale = 10.0
    sizes = {"ink": 2, "noise": 3, "land": 5, "letters": 4, "flags": 3}  # noqa: RUF012 - a constant of the test

    def __init__(self):
        generator = torch.Generator().manual_seed(7)

        def draw(*shape):
            return torch.randn(*shape, generator=generator)

        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.tower = VisionTransformer(32, 16, width=32, layers=2, heads=2, mlp_ratio=2.0, output_dim=16).eval()
        self.tasks = {
            name: Task(name, "id" if i < 3 else "ood", [f"{name} {c}" for c in range(k)])
            for i, (name, k) in enumerate(self.sizes.items())
        }
        self.theta_0 = {k: v.detach().clone() for k, v in self.tower.state_dict().items()}
        self.experts = {
            task: {k: v + v.std(correction=0) * draw(*v.shape) for k, v in self.theta_0.items()}
            for task in self.id_tasks
        }
        self.heads = {name: normalize(draw(k, 16), dim=1) for name, k in self.sizes.items()}
        self.data = {
            (name, split): (draw(n, 3, 32, 32), torch.randint(0, k, (n,), generator=generator))
            for name, k in self.sizes.items()
            for split, n in [("val", 20 + k), ("test", 30 + k)]
        }
        self.encoded = 0

    features = Suite.features

    def images(self, task, split, n=None):
        images, labels = self.data[task, split]
        return images[:n], labels[:n]

    @torch.inference_mode()
    def encode(self, theta, images):
        self.encoded += len(images)
        return normalize(functional_call(self.tower, dict(theta), (images,)), dim=1)


class PeakSuite:
    """One number w as the model, so that accuracy against lam is a known curve with one peak.

    Image i of a task is right while |ln(w / best)| < its reach, where scales below the best count `steep` times as
    far; the OOD task is right only for w = 0.
    """

    name = "peak"

    def __init__(self, best: float, steep: float = 1.0, n: int = 400):
        self.best, self.steep, self.n = best, steep, n
        self.theta_0 = {"w": torch.zeros(1)}
        self.tasks = {"home": SimpleNamespace(kind="id"), "abroad": SimpleNamespace(kind="ood")}
        self.id_tasks, self.ood_tasks = ["home"], ["abroad"]
        self.heads = {task: torch.eye(2) for task in self.tasks}
        self.tried = []

    features = Suite.features

    def images(self, task, split, n=None):
        reach = torch.linspace(0.01, 4, self.n) if task == "home" else torch.full((self.n,), -1.0)
        return reach[:n], torch.zeros(self.n, dtype=torch.long)[:n]

    def encode(self, theta, images):
        w = theta["w"].item()
        self.tried.append(w)
        distance = math.log(w / self.best) if w else math.inf
        right = images > (distance if distance > 0 else -self.steep * distance) if w else images < 0
        return torch.eye(2)[(~right).long()]


def tiny_lora_suite(scale: float, step: float = 0.0) -> TinySuite:
    """Three LoRA experts of rank 4 on the matrices of the blocks, stored last task first, scaled scale + n step."""
    suite, g = TinySuite(), torch.Generator().manual_seed(3)
    shapes = {k: v.shape for k, v in suite.theta_0.items() if "resblocks" in k and v.ndim == 2}
    suite.adapters = {
        task: {
            key: LoRA(torch.randn(4, i, generator=g), torch.randn(o, 4, generator=g), scale + step * n)
            for key, (o, i) in shapes.items()
        }
        for n, task in enumerate(reversed(suite.id_tasks))
    }
    suite.experts = {
        task: add(suite.theta_0, dense(suite.adapters[task], like=suite.theta_0)) for task in suite.id_tasks
    }
    return suite
