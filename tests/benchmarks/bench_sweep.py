"""What does it cost to hand out small jobs?  `python tests/benchmarks/bench_sweep.py [--jobs 300] [--engines ...]`

Each job merges four random experts of 0.4 M parameters by TIES at a density of its own and returns three numbers. The
same jobs one after another, on loky, and on a Dask cluster of this machine with four workers: seconds with the start of
the workers, who load torch first, and whether all results are equal to the last bit.
"""

import argparse
import os
import time

import torch

from samerge_edu.merges.ties import ties
from samerge_edu.sweep import cores, sweep


def job(seed, density):
    torch.set_num_threads(1)
    g = torch.Generator().manual_seed(seed)
    taus = [{"w": torch.randn(640, 640, generator=g)} for _ in range(4)]
    merged = ties(taus, density=density)["w"]
    return [merged.norm().item(), merged.sum().item(), int(merged.count_nonzero())]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--engines", nargs="*", default=["serial", f"loky:{cores()}", "dask:local:4"])
    arguments = parser.parse_args()
    jobs = [{"seed": i % 10, "density": 0.1 + 0.8 * i / arguments.jobs} for i in range(arguments.jobs)]
    reference = None
    print(f"{len(jobs)} jobs, {cores()} cores, load before {os.getloadavg()[0]:.1f}")
    for name in arguments.engines:
        engine, _, workers = ("loky", "", "1") if name == "serial" else name.rpartition(":")
        start, first = time.perf_counter(), None
        results = {}
        for i, result in sweep(job, jobs, int(workers), engine):
            first = first or time.perf_counter() - start
            results[i] = result
        seconds = time.perf_counter() - start
        reference = reference or results
        same = "equal results" if results == reference else "OTHER RESULTS"
        print(
            f"{name:<14}{seconds:7.1f} s, the first after {first:5.1f} s; {same}; load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
