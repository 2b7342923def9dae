"""The prior of a trained model: fitted to the data that it was trained on, to others, or to its own samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from tyro.conf import arg

from proxdm.checkpoints.portable import model_config
from proxdm.config import Config
from proxdm.data.images import ImageData
from proxdm.data.load import DataConfig, has_labels, load_data, test_part
from proxdm.errors import DataError, check_least
from proxdm.generation import USUAL_STEPS, arithmetic, check_prior, draw
from proxdm.models import LearnedModel
from proxdm.operators import offers
from proxdm.pixels import to_model_range
from proxdm.priors import GaussianPrior, MixturePrior, Prior, PriorError, fit_prior, gain, start_for
from proxdm.priors.fit import HELD_FOR_GAIN
from proxdm.sweep import Method

Size = Annotated[int | Literal["auto"], arg(metavar="INT|auto")]

SAMPLED_STEPS = 15
"""Steps of `multistep` for the samples that a prior is fitted to where there are no data."""

BATCH = 128


@dataclass(frozen=True)
class PriorPlan:
    """What a prior is fitted to, and its sizes."""

    # A known data set, or a folder, archive or array of images; by default what the model was trained on.
    data: str | None = None
    root: str | None = None  # Folder that holds the data set; by default PROXDM_DATA or ~/.cache/proxdm/data.
    samples: int = 0  # Fit to so many samples of the model itself, for want of data; 0 fits to data.
    # Gaussians of the mixture, 1 for a single one; auto is one for 200 images at most, by held-out density.
    components: Size = "auto"
    directions: Size = "auto"  # Leading principal directions; auto leaves 5 % of the variance outside, at most 256.
    rank: Size = "auto"  # Directions of each component; auto is 8 to 32, by directions, components and images.
    seed: int = 0  # Of k-means, the gain's noise, and the samples.

    def __post_init__(self) -> None:
        """Reject what cannot be."""
        check_least(0, samples=self.samples)
        if self.samples and self.data is not None:
            raise ValueError(
                f"--samples = {self.samples} and --data = {self.data} are two things to fit to; leave one out"
            )


def fit_model_prior(
    model: LearnedModel, data: ImageData | None = None, plan: PriorPlan | None = None, *, held: ImageData | None = None
) -> GaussianPrior | MixturePrior:
    """Return the prior of a model, with its gain curve where the model has a denoiser.

    Args:
        model: The model, in evaluation mode.
        data: What to fit to; None is what the plan says.
        plan: Sizes, and what to fit to.
        held: Pictures on which gains are counted; None are some that the prior does not see.

    Raises:
        PriorError: There are too few pictures, or they are of another shape.
        DataError: The data are not there.
    """
    plan = plan or PriorPlan()
    if data is None and plan.samples:
        data = draw_data(model, plan)
    if data is None:
        config = data_of(model, plan)
        data, held = load_data(config), held_images(config) if held is None else held
    known = bool(model.classes) and data.classes == model.classes
    sizes = plan.components, plan.directions, plan.rank
    prior = fit_prior(data.images, *sizes, data=data.name, seed=plan.seed, labels=data.labels if known else None)
    check_prior(model, prior)
    chosen, classes = prior.held, prior.held_labels
    if held is not None:
        held = held.head(HELD_FOR_GAIN)
        chosen, classes = to_model_range(held.images), held.labels if known else None
    if chosen is None or not offers(model, "denoiser"):
        return prior
    with arithmetic(model.device):
        return replace(prior, curve=gain(model, prior, chosen, labels=classes, seed=plan.seed))


def data_of(model: LearnedModel, plan: PriorPlan) -> DataConfig:
    """Return the data that a plan names, or that a model was trained on; a PriorError says that there are none."""
    trained = model.config.data if isinstance(model.config, Config) else None
    named = trained
    if plan.data is not None and (trained is None or trained.name != plan.data):
        named = DataConfig(plan.data, labels=bool(model.classes) and has_labels(plan.data))
    if named is None:
        raise PriorError("the model does not say what it was trained on: name images (--data), or take its --samples")
    return replace(named, root=plan.root or named.root, flip="none")


def held_images(config: object, most: int = HELD_FOR_GAIN) -> ImageData | None:
    """Return some pictures of the test part of a known data set; None if there is none here."""
    if not isinstance(config, DataConfig) or (part := test_part(config)) is None:
        return None
    try:
        data = load_data(part)
    except DataError:
        return None
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:most]
    return replace(data, images=data.images[order], labels=None if data.labels is None else data.labels[order])


def draw_data(model: LearnedModel, plan: PriorPlan) -> ImageData:
    """Return samples of the model by 15 steps of `multistep` without a prior, as data."""
    name, steps = ("multistep", SAMPLED_STEPS) if offers(model, "denoiser") else ("prox-hybrid", USUAL_STEPS)
    method, numbers = Method.of(name), range(plan.samples)
    grid = method.times(model.schedule, steps)
    batches = [numbers[first : first + BATCH] for first in numbers[::BATCH]]
    with arithmetic(model.device):
        drawn = [draw(model, method, grid, plan.seed, one).x.float().cpu() for one in batches]
    preset = getattr(model.config, "preset", None) or model_config(model.config).kind
    return ImageData(torch.cat(drawn), f"samples of {preset}")


def in_words(prior: Prior) -> str:
    """Return sizes, starts and rule of a prior in one line."""
    parts = [prior.facts.rule or type(prior).__name__, f"{prior.numbers * 4 / 1e6:.3g} MB"]
    if prior.curve is not None:
        starts = ", ".join(f"{start_for(prior.curve, n):.2g}" for n in (1, 2, 3, 4, 5))
        parts.append(f"starts at ratio {starts} for N = 1 ... 5")
    return "; ".join(parts)
