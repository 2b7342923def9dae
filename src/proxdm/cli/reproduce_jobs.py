"""The command lines that reproduce a block of experiments, in the order in which they are run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from proxdm.checkpoints.hub import OFFICIAL_MODELS, OFFICIAL_STATS
from proxdm.experiments.reproduce import Block, Experiment, Pictures, Sweep, Synthetic
from proxdm.experiments.standins import FEATURES_FILE, VAE_FOLDER
from proxdm.metrics.inception import weights_path
from proxdm.presets import get_preset

Weights = Literal["trained", "official"]
"""Our own training, or the weights that the paper's authors published."""

Stats = Literal["own", "official"]
"""Statistics that we take of the data set, or the file that the paper's authors published."""

STANDINS = "stand-ins"
"""Folder of the stand-ins of `--smoke`, below the folder of the block."""

SMOKE_STEPS = 20
"""Most steps of a model with `--smoke`."""

SMOKE_SAMPLES = 8
"""Samples of everything with `--smoke`."""


@dataclass(frozen=True)
class Setting:
    """What all commands of a block have in common.

    Attributes:
        out: Folder of everything.
        weights: Where the models come from.
        stats: Where the reference statistics come from.
        smoke: Whether everything is made tiny, on stand-ins.
        samples: Samples of a Fréchet distance; None is the paper's.
        device: Where to compute.
        bf16: Run networks in bfloat16.
        compile: Compile networks in training.
        micro_batch: Most samples per forward pass in training.
        inception_weights: File of the Inception weights; None downloads them.
    """

    out: Path
    weights: Weights = "trained"
    stats: Stats = "own"
    smoke: bool = False
    samples: int | None = None
    device: Literal["auto", "cpu"] = "auto"
    bf16: bool = False
    compile: bool = False
    micro_batch: int | None = None
    inception_weights: Path | None = None

    @property
    def standins(self) -> Path:
        """Folder of the stand-ins of `--smoke`."""
        return self.out / STANDINS

    def results(self, what: str) -> Path:
        """Return the folder of results of one kind; what cannot be compared does not share one."""
        marks = {
            "official-weights": self.weights == "official",
            "official-stats": self.stats == "official",
            f"{self.samples}-samples": self.samples is not None,
        }
        return self.out / "-".join([what, *(mark for mark, given in marks.items() if given)])


@dataclass(frozen=True)
class Job:
    """One command.

    Attributes:
        verb: Verb of the command line.
        arguments: What stands after it.
        makes: File or folder that is there when it is done.
        about: How much it is, in words.
        experiment: What it measures, if it measures something.
    """

    verb: str
    arguments: tuple[str, ...]
    makes: Path
    about: str
    experiment: Experiment | None = None

    @property
    def command(self) -> str:
        """The command line as one types it."""
        return shlex.join(["proxdm", self.verb, *self.arguments])


def smoked(block: Block) -> Block:
    """Return the block with few steps only: two numbers that are small, and defined for every method of the toy."""

    def few(one: Experiment) -> tuple[int, ...]:
        return one.steps[:3:2] if isinstance(one, Synthetic) else tuple(n for n in one.steps[:2] if n <= SMOKE_STEPS)

    return replace(block, experiments=tuple(replace(one, steps=few(one)) for one in block.experiments))


def samples_of(one: Experiment, setting: Setting) -> int:
    """Return how many samples an experiment takes of every sampler and number of steps."""
    if setting.smoke:
        return SMOKE_SAMPLES
    return one.samples if setting.samples is None or not isinstance(one, Sweep) else setting.samples


def make_jobs(block: Block, setting: Setting) -> list[Job]:
    """Return the commands of a block, or of a part of it.

    Args:
        block: What to do.
        setting: How.
    """
    jobs: list[Job] = []
    if any(isinstance(one, Sweep) for one in block.experiments):
        jobs += _preparation(block, setting)
    for preset in block.presets:
        jobs.append(_official(preset, setting) if setting.weights == "official" else _training(preset, setting))
        for one in block.experiments:
            if not isinstance(one, Synthetic) and one.preset == preset:
                jobs += [_sweep(block, one, setting)] if isinstance(one, Sweep) else _pictures(one, setting)
    if any(job.verb == "evaluate" for job in jobs):
        jobs.append(_figure(setting))
    jobs += [_toy(one, setting) for one in block.experiments if isinstance(one, Synthetic)]
    return jobs


def _preparation(block: Block, setting: Setting) -> Iterator[Job]:
    """Yield what every Fréchet distance needs: the network of the features, and the reference."""
    if not setting.smoke and setting.inception_weights is None:
        yield Job("download", ("inception",), weights_path(), "95.6 MB, the network of the features")
    assert block.dataset is not None
    target = _statistics(block, setting)
    if setting.stats == "official":
        name = OFFICIAL_STATS[block.dataset]
        arguments = ("stats", block.dataset, "--out", str(target.parent))
        yield Job("download", arguments, target, f"the paper's statistics, {name}")
        return
    root = ("--root", str(setting.standins)) if setting.smoke else ()
    arguments = (block.dataset, "--out", str(target), *root, *_features(setting), *_device(setting))
    yield Job("stats", arguments, target, f"mean and covariance of the features of {block.dataset}, training split")


def _statistics(block: Block, setting: Setting) -> Path:
    if setting.stats == "own":
        return setting.out / "stats" / f"{block.dataset}.npz"
    return setting.out / "stats" / "official" / Path(OFFICIAL_STATS[block.dataset or ""]).name


def _source(preset: str, setting: Setting) -> Path:
    """Return where a model is when it is there."""
    if setting.weights == "official":
        return setting.out / "official" / OFFICIAL_MODELS[preset]
    return setting.out / "runs" / preset


def _official(preset: str, setting: Setting) -> Job:
    path = _source(preset, setting)
    return Job("download", ("models", preset, "--out", str(path.parent)), path, "the paper's weights")


def _training(preset: str, setting: Setting) -> Job:
    config, folder = get_preset(preset), _source(preset, setting)
    flags: list[str] = [] if setting.device == "auto" else ["--training.device", setting.device]
    if setting.bf16:
        flags.append("--training.bf16")
    if setting.compile:
        flags.append("--training.compile")
    if setting.micro_batch is not None:
        flags += ["--training.micro-batch", str(setting.micro_batch)]
    if setting.smoke:
        flags += ["--data.root", str(setting.standins), "--model.network.width", "8", "--training.steps", "2"]
        flags += ["--training.batch-size", "4", "--logging.every", "1", "--logging.checkpoint-every", "1"]
        flags += ["--logging.preview-samples", "4"]
        if config.objective.l1_steps:
            flags += ["--objective.l1-steps", "1"]
        about = "2 steps of 4 images, a narrow network"
    else:
        count, training = config.parameter_count(), config.training
        gibibytes = 4 * count * (4 + len(training.ema)) / 2**30
        about = (
            f"{training.steps:,} steps of {training.batch_size} images; {count:,} parameters, {gibibytes:.2f} GiB of "
            "weights, gradients, moments and average"
        )
    return Job("train", (preset, "--out", str(folder), *flags), folder, about)


def _model(preset: str, setting: Setting) -> tuple[str, ...]:
    more = ("--preset", preset) if setting.weights == "official" else ()
    return (str(_source(preset, setting)), *more)


def _sweep(block: Block, one: Sweep, setting: Setting) -> Job:
    samples = samples_of(one, setting)
    folder = setting.results("evaluations") / one.name
    arguments = (
        *_model(one.preset, setting),
        *("--sampler", one.sampler, "--steps", *map(str, one.steps), "--samples", str(samples)),
        *("--reference", str(_statistics(block, setting)), *_features(setting), "--out", str(folder)),
        *(("--chunk", str(samples)) if setting.smoke else ()),
        *_device(setting),
        *_bf16(setting),
    )
    about = f"{len(one.steps)} rows, {samples * sum(one.steps):,} network evaluations"
    return Job("evaluate", arguments, folder, about, one)


def _pictures(one: Pictures, setting: Setting) -> Iterator[Job]:
    samples = samples_of(one, setting)
    vae = ("--vae", str(setting.standins / VAE_FOLDER)) if setting.smoke else ()
    for steps in one.steps:
        path = setting.results("samples") / f"{one.name}-{steps}.png"
        arguments = (
            *_model(one.preset, setting),
            *("--sampler", one.sampler, "--steps", str(steps), "--samples", str(samples), "--out", str(path), *vae),
            *_device(setting),
            *_bf16(setting),
        )
        about = f"{samples} pictures, {samples * steps:,} network evaluations"
        yield Job("sample", arguments, path, about, replace(one, steps=(steps,)))


def _figure(setting: Setting) -> Job:
    folder, rows = setting.results("figure"), setting.results("evaluations")
    arguments = (str(rows), "--metrics", "fid", "--out", str(folder), "--overwrite")
    return Job("compare", arguments, folder, "all rows so far: a figure, a table")


def _toy(one: Synthetic, setting: Setting) -> Job:
    folder, samples, seeds = setting.out / one.dataset, samples_of(one, setting), 1 if setting.smoke else one.seeds
    arguments = (
        *("--dataset", one.dataset, "--steps", *map(str, one.steps)),
        *("--samples", str(samples), "--seeds", str(seeds), "--out", str(folder)),
        *(("--no-animation",) if setting.smoke else ()),
    )
    return Job("toy", arguments, folder, f"N = {', '.join(map(str, one.steps))}, {samples} particles, {seeds} seeds")


def _features(setting: Setting) -> tuple[str, ...]:
    if setting.smoke:
        return ("--features", str(setting.standins / FEATURES_FILE))
    return () if setting.inception_weights is None else ("--inception-weights", str(setting.inception_weights))


def _device(setting: Setting) -> tuple[str, ...]:
    return () if setting.device == "auto" else ("--device", setting.device)


def _bf16(setting: Setting) -> tuple[str, ...]:
    return ("--bf16",) if setting.bf16 else ()
