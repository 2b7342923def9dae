"""Sampling speed of the networks of the presets, against a plain eager float32 loop, and what each measure gives.

    python benchmarks/network.py [--quick] [--presets NAME ...] [--batch 8] [--threads 2] [--compile] [--bf16-only]

The work is a few hybrid proximal steps (or Euler-Maruyama steps for score networks), a network evaluation each, from
noise to samples. All competitors share the weights and the random numbers, and must agree with the plain loop, or the
benchmark fails: to 1e-4 of the samples' standard deviation in float32, to 10 % in bfloat16. Weights are random (speed
does not depend on them), of natural size, where fresh ones would hide errors behind outputs of nearly 0.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

import proxdm
from _measure import count_flops, describe_machine, measured_peaks, print_peaks, print_table, take_turns
from _plain import plain_sample, written_out
from proxdm.models import LearnedModel, ProxModel
from proxdm.noise import GeneratorNoise
from proxdm.presets import get_preset

Sampler = Callable[[], Tensor]


def randomise(network: nn.Module) -> None:
    """Give every parameter a random value of natural size."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(noise / p[0].numel() ** 0.5 if p.ndim > 1 else 1 + 0.1 * noise)


def variant(model: LearnedModel, *, channels_last: bool = False, cast: bool = False, compiled: bool = False):
    """Return a copy of the model: its network in channels-last memory, in bfloat16, compiled."""
    model = copy.deepcopy(model)
    if cast:
        model = model.bfloat16()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    if compiled:
        model.network.compile()
    return model


def competitors(model: LearnedModel, shape: tuple[int, ...], steps: int, *, compiled: bool) -> dict[str, Sampler]:
    """Return the samplers by name, the plain one first; each draws the same numbers at every call."""
    prox = isinstance(model, ProxModel)
    rule = "prox-hybrid" if prox else "euler-maruyama"
    plain = written_out(model.network)

    def ours(model: LearnedModel, *, autocast: bool = False, frozen: bool = False) -> Sampler:
        def run() -> Tensor:
            # Noise is always drawn in float32: the model casts.
            generator = torch.Generator().manual_seed(3)
            noise = GeneratorNoise(shape, generator)
            patch = torch._inductor.config.patch(freezing=True) if frozen else nullcontext()
            with patch, torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
                return proxdm.sample(model, rule, steps, noise=noise)

        return run

    out: dict[str, Sampler] = {
        "plain loop": lambda: plain_sample(plain, shape, steps, prox, torch.Generator().manual_seed(3)),
        "proxdm": ours(model),
        "proxdm, channels-last": ours(variant(model, channels_last=True)),
        "proxdm, bf16 autocast": ours(model, autocast=True),
        "proxdm, bf16 autocast, channels-last": ours(variant(model, channels_last=True), autocast=True),
        "proxdm, bf16 weights, channels-last": ours(variant(model, cast=True, channels_last=True)),
    }
    if compiled:
        out |= {
            "proxdm, channels-last, compiled": ours(variant(model, channels_last=True, compiled=True)),
            "proxdm, bf16 autocast, compiled": ours(variant(model, compiled=True), autocast=True),
            "proxdm, bf16 weights, ch.-last, compiled": ours(
                variant(model, cast=True, channels_last=True, compiled=True)
            ),
            "proxdm, bf16 w., ch.-l., compiled, frozen": ours(
                variant(model, cast=True, channels_last=True, compiled=True), frozen=True
            ),
        }
    return out


def check(samplers: dict[str, Sampler]) -> None:
    """Compare everybody's samples with the plain loop's.

    Raises:
        SystemExit: They differ by more than arithmetic explains.
    """
    expected = next(iter(samplers.values()))()
    for name, sampler in samplers.items():
        error = float((sampler() - expected).std() / expected.std())
        limit = 0.1 if "bf16" in name else 1e-4
        print(f"  {name:44} differs from the plain loop by {error:.1e} (limit {limit:g})", flush=True)
        if not error <= limit:
            raise SystemExit(f"{name} disagrees with the plain loop: {error:.2e} > {limit:g}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["cifar10-score", "cifar10-prox-hybrid"])
    parser.add_argument("--batch", type=int, default=8, help="images at once (default 8)")
    parser.add_argument("--steps", type=int, default=2, help="network evaluations per image (default 2)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of every competitor (default 7)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile: minutes to start")
    parser.add_argument("--only", nargs="+", help="only competitors whose name holds one of these words, and the plain")
    parser.add_argument("--quick", action="store_true", help="the small networks, few rounds: does it work at all?")
    args = parser.parse_args()
    if args.quick:
        args.presets, args.rounds, args.steps = ["digits-prox-hybrid"], 3, 1
    torch.set_num_threads(args.threads)
    print(describe_machine())
    peaks = measured_peaks(args.quick)
    print_peaks(peaks)
    for name in args.presets:
        torch.manual_seed(0)
        model = get_preset(name).model.build().eval()
        randomise(model.network)
        shape = (args.batch, *model.config.shape)
        samplers = competitors(model, shape, args.steps, compiled=args.compile)
        if args.only:
            samplers = {
                key: work
                for index, (key, work) in enumerate(samplers.items())
                if not index or any(word in key for word in args.only)
            }
        print(f"\n{name}: {args.steps} steps, batch {args.batch}")
        check(samplers)
        flops = count_flops(next(iter(samplers.values())))
        print(f"  {flops / args.batch / args.steps / 1e9:.2f} GFLOP per image and network evaluation")
        timings = take_turns(samplers, args.rounds)
        print("images/s are image evaluations per second: divide by the NFE for samples per second")
        print_table(timings, args.batch * args.steps, flops, peaks)


if __name__ == "__main__":
    main()
