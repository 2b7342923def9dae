"""Training speed of the presets: the package's optimiser step against a plain eager loop of the same mathematics.

    python benchmarks/training.py [--quick] [--presets NAME ...] [--batch 8] [--threads 2] [--compile]

The plain loop (`_plain.py`) draws, converts, predicts, clips, steps AdamW and averages weights in the obvious way; the
package's competitor is the step that `proxdm train` takes (:class:`proxdm.training.stepper.Stepper`). Between the two,
the measures of the package are added to the plain loop one after another. First both train three steps from the same
weights on the same random numbers, without dropout, and must agree in loss and gradient norm to 1e-4.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from _measure import count_flops, describe_machine, measured_peaks, print_peaks, print_table, take_turns
from _plain import Batch, Measures, PlainTraining
from proxdm.config import Config
from proxdm.data.images import ImageData
from proxdm.losses import Phase, phase_at
from proxdm.presets import get_preset
from proxdm.runtime.processes import Place
from proxdm.runtime.seeds import CONDITIONS, NOISE, step_generator
from proxdm.training import ingredients
from proxdm.training.stepper import Stepper

LADDER = {
    "plain loop": Measures(),
    "  + fused attention": Measures(attention=True),
    "  + data as tensors": Measures(attention=True, data=True),
    "  + fused AdamW": Measures(attention=True, data=True, optimizer=True),
    "  + grouped averages": Measures(attention=True, data=True, optimizer=True, averages=True),
    "  + no item() in a step": Measures(attention=True, data=True, optimizer=True, averages=True, no_item=True),
}
"""The plain loop, and the package's measures one after another, each with those before it."""


def settings(compiled: bool) -> dict[str, dict[str, bool]]:
    """Return the options of `TrainingConfig` that are compared."""
    out = {
        "proxdm": {},
        "proxdm, channels-last": {"channels_last": True},
        "proxdm, bf16": {"bf16": True},
        "proxdm, bf16, channels-last": {"bf16": True, "channels_last": True},
    }
    if compiled:
        out |= {
            "proxdm, compiled": {"compile": True},
            "proxdm, bf16, compiled": {"bf16": True, "compile": True},
            "proxdm, bf16, channels-last, compiled": {"bf16": True, "channels_last": True, "compile": True},
        }
    return out


def make_stepper(config: Config, data: ImageData, **options: bool) -> Stepper:
    """Return the package's stepper with some options of `TrainingConfig`."""
    training = replace(config.training, device="cpu", **options)
    model, _, draws, objective, settings = ingredients(replace(config, training=training))
    return Stepper(model, data, draws, objective, settings, Place(torch.device("cpu")))


def stepping(stepper: Stepper, phase: Phase) -> Callable[[], None]:
    """Return a function that takes the next step at every call."""
    number = iter(range(10**9))
    return lambda: stepper.step(next(number), phase)


def check(config: Config, data: ImageData, phase: Phase) -> None:
    """Take three steps with both loops on the same numbers and compare.

    Raises:
        SystemExit: Loss or gradient norm differ by more than 1e-4, relatively.
    """
    size = 2
    network = replace(config.model.network, dropout=0.0)
    config = replace(
        config,
        model=replace(config.model, network=network),
        training=replace(config.training, batch_size=size),
        data=replace(config.data, flip="none"),
        optimiser=replace(config.optimiser, l1_lr=None, warmup=0),
    )
    stepper = make_stepper(config, data)
    plain = PlainTraining(config, stepper.model.network, data.images.numpy())
    noises, seed = stepper.predict.noises, config.training.seed
    for step in range(3):
        drawn = stepper.draws.draw(size, step_generator(seed, CONDITIONS, step))
        noise = torch.randn((noises, size, *config.model.shape), generator=step_generator(seed, NOISE, step))
        plain.step_on(Batch(stepper.stream.batch(step, size), drawn.t, drawn.lam, list(noise)))
        stepper.step(step, phase)
        window = stepper.collect()
        pairs = [("loss", window.loss, plain.loss)]
        if config.optimiser.clip is not None:
            pairs.append(("gradient norm", window.grad_norm, plain.norm))
        for name, ours, theirs in pairs:
            error = abs(ours / theirs - 1)
            print(f"  step {step}: {name} {ours:.6f}, plain loop {theirs:.6f}, relative difference {error:.1e}")
            if not error <= 1e-4:
                raise SystemExit(f"the loops disagree in the {name} of step {step}: {error:.2e} > 1e-4")


def wanted(name: str, words: list[str] | None) -> bool:
    """Return whether a competitor runs: the baseline always does."""
    return words is None or name == "plain loop" or any(word in name for word in words)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["cifar10-prox-hybrid", "digits-prox-hybrid"])
    parser.add_argument("--batch", type=int, help="images per step (default 8 for 32x32 presets, else the preset's)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of every competitor (default 7)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile: minutes to start")
    parser.add_argument("--only", nargs="+", help="only competitors whose name holds one of these words, and the plain")
    parser.add_argument("--quick", action="store_true", help="the digits, few rounds: does it work at all?")
    args = parser.parse_args()
    if args.quick:
        args.presets, args.batch, args.rounds = ["digits-prox-hybrid"], 16, 3
    torch.set_num_threads(args.threads)
    print(describe_machine())
    peaks = measured_peaks(args.quick)
    print_peaks(peaks)
    for name in args.presets:
        run(name, args, peaks)


def run(name: str, args: argparse.Namespace, peaks: dict[str, dict[torch.dtype, float]]) -> None:
    """Check and time one preset."""
    preset = get_preset(name)
    heavy = name.startswith(("cifar10", "celebahq", "mnist"))
    batch = args.batch or (8 if heavy else preset.training.batch_size)
    config = replace(preset, training=replace(preset.training, batch_size=batch))
    pixels = torch.randint(0, 256, (2048, *config.model.shape), generator=torch.Generator().manual_seed(0))
    data = ImageData(pixels.to(torch.uint8), "random pixels")
    phase = phase_at(config.objective, 0, config.training.steps)
    print(f"\n{name}: batch {batch}, loss {phase}")
    check(config, data, phase)
    torch.manual_seed(0)
    network = config.model.build().network
    loop = PlainTraining(config, network, data.images.numpy())
    work: dict[str, Callable[[], None]] = {
        key: partial(loop.step, value) for key, value in LADDER.items() if wanted(key, args.only)
    }
    flops = count_flops(work["plain loop"])
    for key, options in settings(args.compile).items():
        if wanted(key, args.only):
            work[key] = stepping(make_stepper(config, data, **options), phase)
    print(f"  {flops / batch / 1e9:.2f} GFLOP per image and step")
    print_table(take_turns(work, args.rounds, repeat=1 if heavy else 5), batch, flops, peaks)


if __name__ == "__main__":
    main()
