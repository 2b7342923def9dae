"""A DDPMPipeline of diffusers with our scheduler beside DPMSolverMultistepScheduler, and our own sampler, in distance.

    proxdm download data fashion-mnist                       # or any place that PROXDM_DATA names
    proxdm features fashion-mnist --out features.pt
    python benchmarks/pipelines.py --features features.pt --samples 2000

The pipeline is made of a model in the box, saved, and read back, so that models go out and in on the way.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMPipeline, DPMSolverMultistepScheduler

import proxdm
from proxdm.evaluation import ComparisonPlan, compare_sets
from proxdm.integrations.diffusers import ProxMultistepScheduler, load, to_pipeline


def main() -> None:
    """Print a table of distances."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="fashion-mnist")
    parser.add_argument("--features", required=True)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--steps", type=int, nargs="+", default=[2, 3, 5])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    model, batch = proxdm.load(options.model), 100
    reference = model.config.data.name
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        to_pipeline(model).save_pretrained(folder / "pipe")
        pipe = DDPMPipeline.from_pretrained(folder / "pipe")
        pipe.set_progress_bar_config(disable=True)
        back, scheduler = load(folder / "pipe"), pipe.scheduler
        assert isinstance(scheduler, ProxMultistepScheduler)
        theirs = DPMSolverMultistepScheduler.from_config(
            {key: scheduler.config[key] for key in ("num_train_timesteps", "trained_betas", "prediction_type")}
        )

        def by_pipeline(steps: int, seed: int) -> torch.Tensor:
            generator = torch.Generator().manual_seed(seed)
            found = pipe(batch, generator, steps, output_type="np")
            images = found.images if hasattr(found, "images") else found[0]
            return torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1

        def distance(draw: object, steps: int) -> float:
            pictures = torch.cat([draw(steps, seed) for seed in range(options.samples // batch)])  # type: ignore[operator]
            np.save(folder / "x.npy", ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte().numpy())
            plan = ComparisonPlan(features=options.features)
            return compare_sets(folder / "x.npy", reference, plan, device="cpu").values["fid"]

        def by_us(steps: int, seed: int) -> torch.Tensor:
            shape = (batch, *model.config.model.shape)
            return proxdm.sample(back, "multistep", steps, shape, generator=torch.Generator().manual_seed(10**6 + seed))

        print(f"{options.samples} samples of {options.model}, Frechet distance to {reference}")
        for steps in options.steps:
            scheduler.attach(pipe)
            ours = distance(by_pipeline, steps)
            pipe.scheduler = theirs
            other = distance(by_pipeline, steps)
            own = distance(by_us, steps)
            print(
                f"N = {steps}: ProxMultistepScheduler {ours:.2f}, proxdm.sample on the pipeline read back {own:.2f}, "
                f"DPMSolverMultistepScheduler {other:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
