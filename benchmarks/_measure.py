"""How the benchmarks measure: competitors take turns in one process, on the same machine, at the same time.

A machine is rarely idle, so no figure stands alone. Every round runs every competitor once; a ratio is the median over
the rounds of (seconds of the baseline) / (seconds of the competitor) *of the same round*. Beside it stands the ratio of
the least CPU times, all threads together, which other programs disturb less.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

Work = Callable[[], object]


@dataclass
class Timing:
    """Seconds of every round of one competitor: on the wall, and of the CPU, all threads together."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def speedup(self, baseline: Timing) -> float:
        """Return the median over the rounds of the ratio of wall times: above 1 is faster than the baseline."""
        return statistics.median(b / a for a, b in zip(self.wall, baseline.wall, strict=True))

    def cpu_speedup(self, baseline: Timing) -> float:
        """Return the ratio of the least CPU times."""
        return min(baseline.cpu) / min(self.cpu)


def take_turns(competitors: dict[str, Work], rounds: int, repeat: int = 1) -> dict[str, Timing]:
    """Run every competitor once to warm up (and compile), then `rounds` times in turn, `repeat` calls at a time."""
    timings = {name: Timing() for name in competitors}
    for name, work in competitors.items():
        start = time.perf_counter()
        work()
        if (seconds := time.perf_counter() - start) > 20:
            print(f"  {name}: the first call took {seconds:.0f} s (compilation)", flush=True)
        work()
    for turn in range(rounds):
        # Backwards every other time, so that nobody always follows the same neighbour.
        for name in list(competitors)[:: -1 if turn % 2 else 1]:
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(repeat):
                competitors[name]()
            timings[name].wall.append((time.perf_counter() - wall) / repeat)
            timings[name].cpu.append((time.process_time() - cpu) / repeat)
    return timings


def count_flops(work: Work) -> float:
    """Return the floating-point operations of matrix products and convolutions in one call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def _best_rate(work: Work, flops: float, rounds: int) -> float:
    return flops / min(take_turns({"": work}, rounds)[""].wall)


def measured_peaks(quick: bool) -> dict[str, dict[torch.dtype, float]]:
    """Return the FLOP/s that this machine reaches with this torch, at best, in large matrix products and convolutions.

    Both are needed: they come from different libraries, and on some machines convolutions are the faster ones.
    """
    n, rounds = (1024, 5) if quick else (2048, 9)
    out: dict[str, dict[torch.dtype, float]] = {"torch.mm": {}, "3x3 convolution": {}}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(n, n, generator=torch.Generator().manual_seed(0)).to(dtype)
        out["torch.mm"][dtype] = _best_rate(lambda a=a: torch.mm(a, a), 2.0 * n**3, rounds)
        x = torch.randn(16, 256, 16, 16, generator=torch.Generator().manual_seed(1)).to(dtype)
        weight = torch.randn(256, 256, 3, 3, generator=torch.Generator().manual_seed(2)).to(dtype)
        x, weight = (value.contiguous(memory_format=torch.channels_last) for value in (x, weight))
        flops = 2.0 * 16 * 256 * 256 * 256 * 9
        rate = _best_rate(lambda x=x, w=weight: F.conv2d(x, w, padding=1), flops, rounds)
        out["3x3 convolution"][dtype] = rate
    return out


def describe_machine() -> str:
    """Return processor, instruction sets, versions, threads and load in a few lines."""
    model, flags = platform.processor() or platform.machine(), set()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line.split(":", 1) for line in info.read_text().splitlines() if ":" in line]
        found = {key.strip(): value.strip() for key, value in lines}
        model, flags = found.get("model name", model), set(found.get("flags", "").split())
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")
    sets = ", ".join(f"{name} {'yes' if name in flags else 'no'}" for name in known)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"machine   {model}, {os.cpu_count()} cores; {sets}\n"
        f"software  torch {torch.__version__}, Python {platform.python_version()}, {torch.get_num_threads()} threads\n"
        f"load      {load} (1, 5, 15 minutes; a load above 0 at the start means that others compute here too)"
    )


def print_peaks(peaks: dict[str, dict[torch.dtype, float]]) -> None:
    """Print :func:`measured_peaks`."""
    for name, rates in peaks.items():
        figures = ", ".join(f"{rate / 1e9:.0f} GFLOP/s {str(dtype)[6:]}" for dtype, rate in rates.items())
        print(f"peak      {name}: {figures}")


def print_table(
    timings: dict[str, Timing], images: int, flops: float, peaks: dict[str, dict[torch.dtype, float]]
) -> None:
    """Print one line a competitor; the first is the baseline.

    Args:
        timings: Seconds of one piece of work.
        images: Images in a piece of work.
        flops: Operations in a piece of work, the same for all.
        peaks: From :func:`measured_peaks`. Competitors with `bf16` in their name are compared with the bfloat16 ones.
    """
    baseline = next(iter(timings.values()))
    names = "".join(f"{'of ' + name:>20}" for name in peaks)
    print(f"{'':44}{'images/s':>10}{'speed-up':>10}{'(CPU time)':>12}{'GFLOP/s':>9}{names}")
    for name, timing in timings.items():
        best = min(timing.wall)
        dtype = torch.bfloat16 if "bf16" in name else torch.float32
        shares = "".join(f"{flops / best / rates[dtype]:>20.0%}" for rates in peaks.values())
        print(
            f"{name:44}{images / best:>10.2f}{timing.speedup(baseline):>9.2f}x{timing.cpu_speedup(baseline):>11.2f}x"
            f"{flops / best / 1e9:>9.0f}{shares}"
        )
