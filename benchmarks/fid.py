"""Fréchet distance of two folders of PNG files, from the files to the number: ours beside pytorch-fid.

Both with one and the same file of random Inception weights; pictures are the shipped digits' stand-ins: noise of 32x32.

    OMP_NUM_THREADS=2 python benchmarks/fid.py --pictures 200
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image
from pytorch_fid import fid_score, inception

from _measure import describe_machine, take_turns
from proxdm.evaluation import ComparisonPlan, compare_sets
from proxdm.metrics.inception import fid_inception


def random_weights(path: Path) -> dict[str, torch.Tensor]:
    """Write and return random weights of a sensible scale."""
    generator = torch.Generator().manual_seed(7)

    def draw(name: str, like: torch.Tensor) -> torch.Tensor:
        if name.endswith("conv.weight"):
            return torch.randn(like.shape, generator=generator) * (2 / like[0].numel()) ** 0.5
        if name.endswith(("bn.weight", "running_var")):
            return torch.rand(like.shape, generator=generator) + 0.5
        return 0.1 * torch.randn(like.shape, generator=generator)

    state = {
        name: draw(name, tensor)
        for name, tensor in fid_inception().state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    state |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save(state, path)
    return state


def main() -> None:
    """Print pictures a second, and how many times as fast as pytorch-fid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=200, help="of each folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=50)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        root, draws = Path(name), np.random.default_rng(0)
        for folder in ("a", "b"):
            (root / folder).mkdir()
            for i in range(options.pictures):
                coarse = draws.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(root / folder / f"{i:05d}.png")
        state = random_weights(root / "weights.pth")
        plan = ComparisonPlan(inception_weights=root / "weights.pth", batch_size=options.batch_size)
        found: dict[str, float] = {}

        def theirs() -> None:
            with mock.patch.object(inception, "load_state_dict_from_url", return_value=state):
                paths = [str(root / "a"), str(root / "b")]
                found["pytorch-fid"] = fid_score.calculate_fid_given_paths(paths, options.batch_size, "cpu", 2048, 0)

        def ours() -> None:
            found["proxdm fid"] = compare_sets(root / "a", root / "b", plan, device="cpu").values["fid"]

        timings = take_turns({"pytorch-fid": theirs, "proxdm fid": ours}, options.rounds)
    print(describe_machine())
    base = timings["pytorch-fid"]
    for who, timing in timings.items():
        rate = 2 * options.pictures / min(timing.wall)
        print(
            f"{who:12} {found[who]:.8g}  {min(timing.wall):6.1f} s  {rate:6.1f} pictures/s  "
            f"{timing.speedup(base):.2f} times (CPU {timing.cpu_speedup(base):.2f})"
        )


if __name__ == "__main__":
    main()
