"""The experiments of arXiv 2507.08956 as a table, and the steps that carry them out.

A *block* is a data set: the synthetic experiment, MNIST, CIFAR-10, CelebA-HQ. Its experiments are sweeps over the
number of steps N, which is the number of network evaluations (NFE): a Fréchet distance for every N, or pictures to look
at. Every value that is not here is that of the preset (:mod:`proxdm.presets`). :func:`make_steps` turns a block, or a
part of it, into steps (:mod:`proxdm.experiments.commands`) in the order in which they are carried out.

The paper's distances stand beside ours where they are known. They are read off its figure, to about three digits; it
takes them on 50,000 samples with pytorch-fid.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from proxdm.checkpoints.hub import OFFICIAL_MODELS, OFFICIAL_STATS
from proxdm.config import overlay
from proxdm.errors import check_least, unknown_name
from proxdm.evaluation import EvaluationPlan
from proxdm.evaluation.results import RESULTS
from proxdm.experiments.commands import Step, Train
from proxdm.experiments.standins import FEATURES_FILE, VAE_FOLDER
from proxdm.experiments.toy import STEPS as TOY_STEPS
from proxdm.metrics.inception import weights_path
from proxdm.presets import get_preset

BlockName = Literal["toy", "mnist", "cifar10", "celebahq"]

STEPS = (5, 10, 20, 50, 100, 1000)
"""The paper's numbers of steps."""

SUBSET_STEPS = (5, 10, 20)
"""Those of the models that are trained for few steps only."""

BACKWARD_STEPS = (20, 50, 100, 1000)
"""Those that the backward model is trained for; the step itself is defined for N >= 10."""

SMOKE_STEPS = 20
"""Most steps of a model with `smoke`."""

SMOKE_SAMPLES = 8
"""Samples of everything with `smoke`."""

TOY_RESULTS, FIGURE = "results.json", "compare.json"
"""What `proxdm toy` and `proxdm compare` write last."""


@dataclass(frozen=True)
class Sweep:
    """The Fréchet distance of one model with one sampler on its usual grid, for several numbers of steps."""

    name: str  # Name of the experiment
    preset: str  # The model
    sampler: str  # Name of the sampler
    steps: tuple[int, ...]  # Numbers of steps N
    paper: Mapping[int, float] = field(default_factory=dict)  # The paper's distance by N, where it is known
    samples: int = 50_000  # Samples of every distance


@dataclass(frozen=True)
class Pictures:
    """Pictures of one model with one sampler on its usual grid, a grid of `samples` for every number of steps."""

    name: str
    preset: str
    sampler: str
    steps: tuple[int, ...]
    samples: int = 64


@dataclass(frozen=True)
class Synthetic:
    """The synthetic experiment (:mod:`proxdm.experiments.toy`) on a Datasaurus set, which trains nothing."""

    name: str
    dataset: str
    steps: tuple[int, ...]
    samples: int = 1000
    seeds: int = 3


Experiment = Sweep | Pictures | Synthetic


@dataclass(frozen=True)
class Block:
    """Everything that belongs to one data set."""

    name: BlockName  # Name on the command line
    title: str  # What it is
    dataset: str | None  # The data set, a name in :data:`proxdm.data.known.DATASETS`; None where none is needed
    experiments: tuple[Experiment, ...]  # What is measured; the models are those that it needs

    @property
    def presets(self) -> tuple[str, ...]:
        """The models, in the order in which they are needed."""
        return tuple(dict.fromkeys(one.preset for one in self.experiments if not isinstance(one, Synthetic)))

    @property
    def sweeps(self) -> tuple[Sweep, ...]:
        """The experiments that are distances."""
        return tuple(one for one in self.experiments if isinstance(one, Sweep))

    def only(self, names: Sequence[str] = (), steps: Sequence[int] = ()) -> Block:
        """Return the part of the block that the names stand for."""
        known = [*dict.fromkeys([*(one.name for one in self.experiments), *self.presets])]
        for name in names:
            if name not in known:
                raise unknown_name(f"part of {self.name}", name, known)
        chosen = [one for one in self.experiments if not names or {one.name, getattr(one, "preset", "")} & set(names)]
        there = sorted({n for one in chosen for n in one.steps})
        if missing := [n for n in steps if n not in there]:
            raise ValueError(
                f"steps = {missing[0]} is not in this part of {self.name}, which has {', '.join(map(str, there))}; "
                "measure others with proxdm evaluate"
            )
        if steps:
            chosen = [replace(one, steps=tuple(n for n in one.steps if n in steps)) for one in chosen]
        return replace(self, experiments=tuple(one for one in chosen if one.steps))

    def smoked(self) -> Block:
        """Return the block with two small numbers of steps, which every method of the toy is defined for."""

        def few(one: Experiment) -> tuple[int, ...]:
            small = tuple(n for n in one.steps[:2] if n <= SMOKE_STEPS)
            return one.steps[:3:2] if isinstance(one, Synthetic) else small

        return replace(self, experiments=tuple(replace(one, steps=few(one)) for one in self.experiments))


def _fid(*values: float) -> dict[int, float]:
    return dict(zip(STEPS, values, strict=False))  # the subset models have the first steps only


_MNIST = (
    Sweep("mnist-score-sde", "mnist-score", "euler-maruyama", STEPS),
    Sweep("mnist-score-ode", "mnist-score", "ode-euler", STEPS),
    Sweep("mnist-prox-hybrid", "mnist-prox-hybrid", "prox-hybrid", STEPS),
    Sweep("mnist-prox-backward", "mnist-prox-backward", "prox-backward", BACKWARD_STEPS),
)

_SCORE, _PROX = "cifar10-score", "cifar10-prox-hybrid"
_CIFAR10 = (
    Sweep("cifar10-score-sde", _SCORE, "euler-maruyama", STEPS, _fid(340, 269, 184, 80.4, 42.5, 3.26)),
    Sweep("cifar10-score-ode", _SCORE, "ode-euler", STEPS, _fid(281, 103, 28.9, 8.24, 4.86, 3.52)),
    Sweep("cifar10-prox-hybrid", _PROX, "prox-hybrid", STEPS, _fid(245, 28.9, 13.5, 5.75, 4.36, 4.61)),
    Sweep("cifar10-score-subset-sde", f"{_SCORE}-subset", "euler-maruyama", SUBSET_STEPS, _fid(327, 276, 194)),
    Sweep("cifar10-score-subset-ode", f"{_SCORE}-subset", "ode-euler", SUBSET_STEPS, _fid(285, 109, 35.7)),
    Sweep("cifar10-prox-hybrid-subset", f"{_PROX}-subset", "prox-hybrid", SUBSET_STEPS, _fid(89.9, 25.1, 17.3)),
    Sweep("cifar10-prox-hybrid-subset-noheur", f"{_PROX}-subset-noheur", "prox-hybrid", SUBSET_STEPS),
)
_CELEBAHQ = (
    Pictures("celebahq-score-sde", "celebahq-score", "euler-maruyama", STEPS),
    Pictures("celebahq-prox-hybrid", "celebahq-prox-hybrid", "prox-hybrid", STEPS),
)
_TOY = "the synthetic experiment: exact operators on the Datasaurus dino, W2 against N"
_FEW_TOO = "CIFAR-10: FID against the number of steps, and models trained for 5, 10 and 20 steps only"
_LATENT = "CelebA-HQ 256x256 in the latent space of an autoencoder: pictures against the number of steps"

BLOCKS: dict[BlockName, Block] = {
    "toy": Block("toy", _TOY, None, (Synthetic("toy-dino", "dino", TOY_STEPS),)),
    "mnist": Block("mnist", "MNIST at 32x32: FID against the number of steps", "mnist", _MNIST),
    "cifar10": Block("cifar10", _FEW_TOO, "cifar10", _CIFAR10),
    "celebahq": Block("celebahq", _LATENT, "celebahq-latents", _CELEBAHQ),
}
"""Every block by name."""


@dataclass(frozen=True)
class Reproduction:
    """Run every experiment of arXiv 2507.08956 on one data set: train its models, measure or draw, show a table.

    Every step is shown as the command that does the same. What is finished is skipped and what was interrupted goes on:
    to go on, give the same command again. Several GPUs: run the printed training commands under accelerate launch, the
    evaluations under torchrun; this command then finds them finished.
    """

    block: Positional[BlockName]  # toy (the synthetic experiment), mnist, cifar10 or celebahq.
    # Experiments or presets, e.g. cifar10-score-ode or cifar10-score; --dry-run shows their names.
    only: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()  # Of the paper's numbers of steps, measure these only.
    # official takes the weights that the paper's authors published, and trains nothing.
    weights: Literal["trained", "official"] = "trained"
    # Reference of the FID: own takes it of the data set, official is the authors' file (the default with official
    # weights).
    stats: Literal["own", "official"] | None = None
    samples: int | None = None  # Samples of a FID, 50,000 by default, as in the paper; fewer give larger values.
    # Run the same steps on small stand-ins for all data, with narrow networks and two training steps: seconds, no
    # download. The numbers mean nothing.
    smoke: bool = False
    dry_run: bool = False  # Show the commands, what they need and how much they are; run nothing.
    device: Literal["auto", "cpu"] = "auto"  # auto (a GPU where there is one) or cpu.
    bf16: bool = False  # Run the networks in bfloat16: faster on GPUs; the paper does not.
    compile: bool = False  # Compile the networks in training.
    micro_batch: int | None = None  # Most samples in a forward pass of training: less memory, the same result.
    # File of the Inception weights, pt_inception-2015-12-05-6726825d.pth; by default it is downloaded once.
    inception_weights: Path | None = None
    # Folder of runs, statistics, evaluations and pictures; with --smoke, reproduce/BLOCK-smoke by default.
    out: Annotated[Path | None, arg(aliases=("-o",), help_behavior_hint="(default: reproduce/BLOCK)")] = None

    def chosen(self) -> Block:
        """Return the part of the block that is asked for."""
        block = BLOCKS[self.block].only(self.only, self.steps)
        measured = {"stats": self.stats, "samples": self.samples, "inception-weights": self.inception_weights}
        trained = {"compile": self.compile, "micro-batch": self.micro_batch}
        networks = {"weights": self.weights != "trained", "bf16": self.bf16, "device": self.device != "auto"}
        numbers = {"steps": self.steps, "micro-batch": self.micro_batch}
        for applies, settings, reason in (
            (not block.presets, networks | trained, f"{block.name} needs no network"),
            (not block.sweeps, measured, f"{block.name} has no Fréchet distance"),
            (self.weights == "official", trained, "official weights are not trained"),
            (self.smoke, measured | numbers, "--smoke has its own numbers, features and statistics"),
        ):
            for name, value in settings.items():
                if applies and value is not None and value is not False and value != ():
                    raise ValueError(f"--{name} has no effect: {reason}; leave it out")
        check_least(1, micro_batch=self.micro_batch)
        if self.samples is not None:
            EvaluationPlan(samples=self.samples)  # which says what is too few
        if self.inception_weights is not None and not self.inception_weights.is_file():
            raise ValueError(f"there is no file {self.inception_weights}; leave --inception-weights out to download it")
        return block.smoked() if self.smoke else block

    @property
    def folder(self) -> Path:
        """Folder of everything."""
        return self.out or Path("reproduce", self.block + ("-smoke" if self.smoke else ""))

    @property
    def standins(self) -> Path | None:
        """Folder of the stand-ins; None without `smoke`."""
        return self.folder / "stand-ins" if self.smoke else None

    @property
    def official_stats(self) -> bool:
        """Whether the reference is the authors' file."""
        usual = self.weights == "official" and not self.smoke and bool(BLOCKS[self.block].sweeps)
        return usual if self.stats is None else self.stats == "official"

    @property
    def place(self) -> str | None:
        """The device to name; None is the usual one."""
        return None if self.device == "auto" else self.device

    def samples_of(self, one: Experiment) -> int:
        """Return how many samples an experiment takes of every sampler and number of steps."""
        if self.smoke:
            return SMOKE_SAMPLES
        return one.samples if self.samples is None or not isinstance(one, Sweep) else self.samples

    def results(self, what: str) -> Path:
        """Return the folder of results of one kind; what cannot be compared does not share one."""
        marks = {
            "official-weights": self.weights == "official",
            "official-stats": self.official_stats,
            f"{self.samples}-samples": self.samples is not None,
        }
        return self.folder / "-".join([what, *(mark for mark, given in marks.items() if given)])


def make_steps(plan: Reproduction) -> list[Step]:
    """Return the steps of a block, or of a part of it, in the order in which they are carried out."""
    block, features = plan.chosen(), plan.standins and str(plan.standins / FEATURES_FILE)
    taken = {"features": features, "inception_weights": plan.inception_weights}
    steps = _references(plan, block.dataset, taken) if block.sweeps and block.dataset else []
    reference = str(steps[-1].out) if steps else None
    for preset in block.presets:
        steps.append(model := _model(plan, preset))
        for one in block.experiments:
            if not isinstance(one, Synthetic) and one.preset == preset:
                steps += _of_model(plan, one, model.out, {"reference": reference, **taken})
    if block.sweeps:
        out, rows = plan.results("figure"), plan.results("evaluations")

        def is_newer() -> bool:
            made, files = out / FIGURE, rows.glob(f"*/{RESULTS}")
            return made.exists() and all(path.stat().st_mtime <= made.stat().st_mtime for path in files)

        options, about = {"metrics": ("fid",), "overwrite": True}, "all rows so far: a figure, a table"
        steps.append(Step("compare", (rows,), options, about, out, is_newer))
    return steps + [_toy(plan, one) for one in block.experiments if isinstance(one, Synthetic)]


def _references(plan: Reproduction, dataset: str, taken: Mapping[str, Any]) -> list[Step]:
    """Return what every Fréchet distance needs: the network of the features, and the statistics, which come last."""
    folder, steps = plan.folder / "stats", list[Step]()
    if not plan.smoke and plan.inception_weights is None:  # it stays in the cache
        about = "95.6 MB, the network of the features"
        steps.append(Step("download", ("inception",), {"out": None}, about, weights_path()))
    if plan.official_stats:
        file = OFFICIAL_STATS[dataset]
        out, about = folder / "official" / Path(file).name, f"the paper's statistics, {file}"
        return [*steps, Step("download", ("stats", dataset), {"out": out.parent}, about, out)]
    about = f"mean and covariance of the features of {dataset}, training split"
    options = {"root": plan.standins and str(plan.standins), **taken, "device": plan.place}
    return [*steps, Step("stats", (dataset,), options, about, folder / f"{dataset}.npz")]


def _model(plan: Reproduction, preset: str) -> Step:
    """Return the step that makes a model: a training, or a download."""
    if plan.weights == "official":
        out = plan.folder / "official" / OFFICIAL_MODELS[preset]
        return Step("download", ("models", preset), {"out": out.parent}, "the paper's weights", out)
    config, out = get_preset(preset), plan.folder / "runs" / preset
    wanted = {"device": plan.device, "bf16": plan.bf16, "compile": plan.compile, "micro_batch": plan.micro_batch}
    config = overlay(config, {"training": {name: value for name, value in wanted.items() if value}})
    if plan.smoke:
        tiny = {
            "data": {"root": str(plan.standins)},
            "model": {"network": {"width": 8}},
            "objective": {"l1_steps": min(config.objective.l1_steps, 1)},
            "training": {"steps": 2, "batch_size": 4},
            "logging": {"every": 1, "checkpoint_every": 1, "preview_samples": 4},
        }
        return Train(about="2 steps of 4 images, a narrow network", out=out, config=overlay(config, tiny))
    count, training = config.model.parameter_count(), config.training
    about = (
        f"{training.steps:,} steps of {training.batch_size} images; {count:,} parameters, "
        f"{4 * count * (4 + len(training.ema)) / 2**30:.2f} GiB of weights, gradients, moments and average"
    )
    return Train(about=about, out=out, config=config)


def _of_model(plan: Reproduction, one: Sweep | Pictures, model: Path, reference: Mapping[str, Any]) -> Iterator[Step]:
    """Yield the steps of an experiment on a model: one evaluation, or a grid of pictures for every number of steps."""
    samples = plan.samples_of(one)
    preset = one.preset if plan.weights == "official" else None
    how = {"preset": preset, "sampler": one.sampler, "samples": samples, "device": plan.place, "bf16": plan.bf16}
    if isinstance(one, Sweep):
        options = {**how, "steps": one.steps, **reference, "chunk": samples if plan.smoke else None}
        about = f"{len(one.steps)} rows, {samples * sum(one.steps):,} network evaluations"
        yield Step("evaluate", (model,), options, about, plan.results("evaluations") / one.name, lambda: False)
        return
    for n in one.steps:
        options = {**how, "steps": n, "vae": plan.standins and str(plan.standins / VAE_FOLDER)}
        about = f"{samples} pictures, {samples * n:,} network evaluations"
        yield Step("sample", (model,), options, about, plan.results("samples") / f"{one.name}-{n}.png")


def _toy(plan: Reproduction, one: Synthetic) -> Step:
    """Return the synthetic experiment, which is done where results of these very numbers are there."""
    samples, seeds, out = plan.samples_of(one), 1 if plan.smoke else one.seeds, plan.folder / one.dataset
    numbers = {"dataset": one.dataset, "steps": one.steps, "samples": samples, "seeds": seeds}

    def done() -> bool:
        try:
            record = json.loads((out / TOY_RESULTS).read_text(encoding="utf-8"))
            found = record["dataset"], record["samples"], len(record["seeds"]), record["prox_mode"]
            steps = {int(n) for of in ("methods", "skipped") for cells in record[of].values() for n in cells}
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return (*found, steps) == (one.dataset, samples, seeds, "global", set(one.steps))

    about = f"N = {', '.join(map(str, one.steps))}, {samples} particles, {seeds} seeds"
    return Step("toy", (), {**numbers, "no_animation": plan.smoke}, about, out, done)
