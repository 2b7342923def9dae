"""What a prior costs: warm start and bootstrap against one evaluation of the CIFAR-10 preset, a picture.

python benchmarks/prior.py             # the mixture that `fit_prior` makes of 8,000 pictures or more of 3x32x32
"""

from __future__ import annotations

import argparse
import os

import torch

from _measure import take_turns
from proxdm.presets import get_preset
from proxdm.priors import MixturePrior, bootstrap, warm_start


def mixture(components: int, directions: int, rank: int, shape: tuple[int, ...]) -> MixturePrior:
    """Return a mixture of these sizes with random numbers: time does not depend on them."""
    g = torch.Generator().manual_seed(0)
    d = torch.Size(shape).numel()

    def rand(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=g, dtype=torch.float64)

    return MixturePrior(
        mean=rand(d),
        basis=torch.linalg.qr(rand(d, directions))[0],
        rest=torch.tensor(0.01, dtype=torch.float64),
        log_weights=torch.log_softmax(rand(components), 0),
        centres=3 * rand(components, directions),
        axes=torch.linalg.qr(rand(components, directions, rank))[0],
        variances=1 + rand(components, rank).abs(),
        floors=0.1 + 0.1 * rand(components).abs(),
        shape=shape,
    )


def main() -> None:
    """Print milliseconds a picture and the share of one evaluation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    config = get_preset("cifar10-score")
    model, shape, batch = config.model.build().eval(), tuple(config.model.shape), options.batch
    x, t = torch.randn(16, *shape), torch.full((16,), 0.5)
    print(f"{torch.get_num_threads()} threads of {os.cpu_count()} cores, torch {torch.__version__}, batch {batch}")
    sizes = {"CIFAR-10, 50,000 pictures": (101, 256, 16), "CIFAR-10, 8,000": (40, 256, 32), "Gaussian": (1, 256, 16)}
    priors = {name: mixture(*size, shape) for name, size in sizes.items()}
    z = torch.randn(batch, *shape)

    def evaluate() -> object:
        with torch.no_grad():
            return model.denoise(x, t)

    work = {name: lambda p=p: bootstrap(p, warm_start(p, z, 1.0), 1.0, 8.0) for name, p in priors.items()}
    timings = take_turns({"evaluation": evaluate, **work}, options.rounds)
    each = {name: min(timing.cpu) for name, timing in timings.items()}  # seconds of the CPU, least disturbed
    network = each.pop("evaluation") / 16
    print(f"one evaluation of cifar10-score: {1000 * network:.1f} ms a picture")
    for name, seconds in each.items():
        prior, ms = priors[name], 1000 * seconds / batch
        size = prior.numbers * 4 / 1e6
        print(f"{name:26s} {ms:.3f} ms a picture, {ms / network / 10:.2f} % of an evaluation; {size:.2f} MB in a file")


if __name__ == "__main__":
    main()
