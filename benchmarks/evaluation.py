"""What evaluation costs beside the networks, and how much memory it takes.

    python benchmarks/evaluation.py [--samples 10000] [--steps 5] [--preset digits-prox-hybrid]

It evaluates a model with random weights on the features `pixels` (the Fréchet distance) and prints the share of the
time that is spent outside of the network, part by part, then the peak memory at a tenth of the samples and at all of
them, each in a process of its own. The target is a share below 5 % at N = 5, and a memory that does not grow.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch

from proxdm import generation
from proxdm.checkpoints.load import Opened
from proxdm.evaluation import EvaluationPlan, accumulate, evaluate, run
from proxdm.presets import get_preset


class Clock:
    """Time spent in some functions, by name: of the wall and of the processor."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def watch(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time taken."""
        spent = self.seconds.setdefault(name, [0.0, 0.0])

        def timed(*arguments: Any, **options: Any) -> Any:
            wall, processor = perf_counter(), process_time()
            try:
                return function(*arguments, **options)
            finally:
                spent[0] += perf_counter() - wall
                spent[1] += process_time() - processor

        return timed


@contextmanager
def watched(clock: Clock, model: torch.nn.Module) -> Iterator[None]:
    """Take the time of the network and of the parts of evaluation around it."""
    network: Any = model.network
    parts = [
        (network, "forward", "network"),
        (generation.SeededNoise, "__init__", "noise: generators"),
        (generation.SeededNoise, "initial", "noise: numbers"),
        (run, "as_kept", "rounding to uint8"),
        (accumulate.Accumulator, "add", "moments"),
        (accumulate.Accumulator, "save", "saving the state"),
        (run._Job, "finish", "metrics and picture"),
        (run, "open_job", "features and reference"),
    ]
    before = [getattr(owner, name) for owner, name, _ in parts]
    for (owner, name, title), function in zip(parts, before, strict=True):
        setattr(owner, name, clock.watch(title, function))
    try:
        yield
    finally:
        for (owner, name, _), function in zip(parts, before, strict=True):
            setattr(owner, name, function)


def random_model(preset: str) -> Opened:
    """Return the model of a preset with random weights."""
    torch.manual_seed(0)
    config = get_preset(preset)
    model = config.model.build().eval()
    model.config = config
    return Opened(model, "random")


def measure(preset: str, samples: int, steps: int) -> None:
    """Evaluate once and print where the time went."""
    opened, clock = random_model(preset), Clock()
    plan = EvaluationPlan(steps=(steps,), samples=samples, features="pixels")
    with tempfile.TemporaryDirectory() as folder, watched(clock, opened.model):
        wall, processor = perf_counter(), process_time()
        evaluate(opened, plan, out=Path(folder), device="cpu", say=lambda line: None)
        wall, processor = perf_counter() - wall, process_time() - processor
    print(f"{preset}, N = {steps}, {samples:,} samples, {torch.get_num_threads()} thread(s)")
    network, opening = clock.seconds["network"], clock.seconds["features and reference"]
    known = [sum(value[i] for value in clock.seconds.values()) for i in (0, 1)]
    rows = {**clock.seconds, "the rest": [wall - known[0], processor - known[1]]}
    print(f"{'':<24}{'wall s':>9}{'%':>7}{'processor s':>13}{'%':>7}")
    for name, (a, b) in rows.items():
        print(f"{name:<24}{a:>9.2f}{100 * a / wall:>7.2f}{b:>13.2f}{100 * b / processor:>7.2f}")
    for title, once in (("outside the network", [0.0, 0.0]), ("but for what is done once for all rows", opening)):
        shares = [100 * (1 - network[i] / (total - once[i])) for i, total in enumerate((wall, processor))]
        print(f"{title}: {shares[0]:.2f} % of the wall time, {shares[1]:.2f} % of the processor's")


def peak(preset: str, samples: int, steps: int) -> None:
    """Evaluate once and print the peak memory of the process."""
    evaluate(
        random_model(preset),
        EvaluationPlan(steps=(steps,), samples=samples, features="pixels"),
        device="cpu",
        say=lambda line: None,
    )
    print(f"{samples:,} samples: peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.1f} MiB")


def main() -> None:
    """Measure time, then memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--preset", default="digits-prox-hybrid")
    parser.add_argument("--peak", action="store_true", help="only evaluate once and print the peak memory")
    options = parser.parse_args()
    arguments = (options.preset, options.samples, options.steps)
    if options.peak:
        peak(*arguments)
        return
    measure(*arguments)
    for samples in (options.samples // 10, options.samples):
        command = [sys.executable, __file__, "--peak", "--samples", str(samples), "--steps", str(options.steps)]
        subprocess.run([*command, "--preset", options.preset], check=True)


if __name__ == "__main__":
    main()
