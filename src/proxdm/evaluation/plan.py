"""What is to be measured: samplers x numbers of steps x seeds, on which features, against what, by which metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from proxdm.checkpoints.portable import model_config
from proxdm.data.errors import unknown_name
from proxdm.data.load import DataConfig
from proxdm.data.vae import DEFAULT_VAE
from proxdm.errors import StepError
from proxdm.evaluation.measures import MEASURES
from proxdm.generation import GridChoice, choose_rule, fitting_samplers, outside_training
from proxdm.grids import GridName, TimeGrid
from proxdm.models import LearnedModel
from proxdm.rules import Rule, find_rule
from proxdm.samplers import check_steps

ALL = "all"
"""Instead of the name of a sampler: every one that takes the model."""

_MOST, _PIXELS = 128, 2**16
_MOST_ON_CUDA, _PIXELS_ON_CUDA = 256, 2**20


@dataclass(frozen=True)
class EvaluationPlan:
    """What to measure; every combination of sampler, number of steps and seed is one row.

    Attributes:
        samplers: Names of rules, or `all`; empty is the one that the model was trained for.
        steps: Numbers of steps N.
        samples: Samples of a row.
        metrics: Names in :data:`proxdm.evaluation.measures.MEASURES`.
        reference: What to compare with: an `.npz` of statistics, or a data set (a name, a path or a description);
            None is the data set that the model was trained on.
        force: Take statistics that were made by another route than the features: the number means little.
        features: `inception`, `pixels`, or the file of a module (:func:`proxdm.metrics.features.load_extractor`).
        inception_weights: File of the Inception weights; None downloads them once.
        seed: Seed of the first row; sample i of a row depends on (seed, i) alone.
        seeds: Number of rows with different seeds: `seed`, `seed + 1`, ...
        grid: Times to go through; None is the usual grid of the sampler.
        eps: Last time before 0 of the denoising and log-snr grids; None is 0.001.
        rho: Exponent of the power grid; None is 2.
        bf16: Run the network in bfloat16.
        compile: Compile the network with `torch.compile` before the first row, for all rows. Like another chunk, it may
            round a few pixels to the neighbouring grey level.
        batch_size: Samples between two saved states, rounded up to whole chunks; has no influence on numbers.
        chunk: Samples in one call of the network; None is :func:`default_chunk`. Always full and always the same
            samples, so that not even rounding depends on the batch size or on the number of processes; another chunk
            may round a few pixels to the neighbouring grey level.
        vae: Autoencoder that decodes the samples of latent models.
    """

    samplers: tuple[str, ...] = ()
    steps: tuple[int, ...] = (5, 10, 20)
    samples: int = 50_000
    metrics: tuple[str, ...] = ("fid",)
    reference: str | Path | DataConfig | None = None
    force: bool = False
    features: str = "inception"
    inception_weights: Path | None = None
    seed: int = 0
    seeds: int = 1
    grid: GridName | None = None
    eps: float | None = None
    rho: float | None = None
    bf16: bool = False
    compile: bool = False
    batch_size: int = 1024
    chunk: int | None = None
    vae: str = DEFAULT_VAE

    def __post_init__(self) -> None:
        """Check every value that does not need the model.

        Raises:
            ValueError: A count below its limit, an unknown name, or a setting that would be ignored.
        """
        counts = {"batch-size": self.batch_size, "seeds": self.seeds, "chunk": self.chunk, "samples": self.samples}
        for name, count in [*counts.items(), *(("steps", steps) for steps in self.steps)]:
            if count is not None and count < 1:
                raise ValueError(f"{name} = {count} must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed = {self.seed} must be at least 0")
        if not self.steps or not self.metrics:
            raise ValueError("there is nothing to measure: give at least one number of steps and one metric")
        for metric in self.metrics:
            if metric not in MEASURES:
                raise unknown_name("metric", metric, MEASURES)
            if self.samples < (least := MEASURES[metric].least):
                raise ValueError(f"samples = {self.samples} are too few for {metric}, which needs {least} at least")
        for sampler in self.samplers:
            if sampler != ALL:
                find_rule(sampler)
        _ = self.grid_choice

    @property
    def grid_choice(self) -> GridChoice:
        """Which times to go through."""
        return GridChoice(self.grid, self.eps, self.rho)


@dataclass(frozen=True)
class Cell:
    """One row to be measured.

    Attributes:
        rule: The sampler.
        grid: Its times.
        seed: Of all random numbers.
    """

    rule: Rule
    grid: TimeGrid
    seed: int


@dataclass(frozen=True)
class Skipped:
    """A row that does not exist, because the sampler is not defined on the grid.

    Attributes:
        sampler: Name of the rule.
        steps: N.
        reason: What is wrong, in one line.
    """

    sampler: str
    steps: int
    reason: str


def make_cells(plan: EvaluationPlan, model: LearnedModel) -> tuple[list[Cell], list[Skipped]]:
    """Return the rows of a plan, by sampler, then steps, then seed, and those that are not defined.

    Raises:
        OperatorError: A sampler needs a score and the model has a prox, or the other way round.
        ValueError: A grid cannot be made, or a setting would be ignored.
    """
    cells, skipped = [], []
    for rule in _rules(plan.samplers, model):
        for steps in dict.fromkeys(plan.steps):
            grid = plan.grid_choice.make(rule, steps, model)
            try:
                check_steps(rule, grid, model.sde)
            except StepError as error:
                skipped.append(Skipped(rule.name, steps, str(error)))
                continue
            cells += [Cell(rule, grid, seed) for seed in range(plan.seed, plan.seed + plan.seeds)]
    return cells, skipped


def unseen(model: LearnedModel, cells: Iterable[Cell]) -> list[str]:
    """Return a line on every sampler with steps that the network was not trained for."""
    found: dict[str, tuple[str, list[int]]] = {}
    for rule, grid in dict.fromkeys((cell.rule, cell.grid) for cell in cells):
        if (line := outside_training(model, rule, grid)) is not None:
            found.setdefault(rule.name, (line, []))[1].append(grid.steps)
    return [
        line if len(steps) == 1 else f"{line}; as do some with N = {', '.join(map(str, steps[1:]))}"
        for line, steps in found.values()
    ]


def default_chunk(device: torch.device, shape: Sequence[int]) -> int:
    """Return how many samples `(C, H, W)` a network is given at a time.

    On CUDA up to 256, of 2^20 pixels together; elsewhere up to 128, of 2^16 pixels, which is 64 samples of 32x32: of
    more pixels than that the activations no longer fit the caches of a CPU. It depends on the kind of device and the
    shape alone, as does the rounding of the network.
    """
    most, pixels = (_MOST_ON_CUDA, _PIXELS_ON_CUDA) if device.type == "cuda" else (_MOST, _PIXELS)
    return max(1, min(most, pixels // (shape[-1] * shape[-2])))


def _rules(names: Sequence[str], model: LearnedModel) -> list[Rule]:
    fitting = fitting_samplers(model_config(model.config).kind)
    wanted = [other for name in names for other in (fitting if name == ALL else [name])]
    return list(dict.fromkeys(choose_rule(name, model) for name in (wanted if names else [None])))
