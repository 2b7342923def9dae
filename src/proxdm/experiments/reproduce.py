"""The experiments of arXiv 2507.08956 as data: which models are trained, and what is measured with which samplers.

A *block* is a data set: the synthetic experiment, MNIST, CIFAR-10, CelebA-HQ. Its experiments are sweeps over the
number of steps N, which is the number of network evaluations (NFE): a Fréchet distance for every N, or pictures to look
at. Every value that is not here is that of the preset (:mod:`proxdm.presets`).

The paper's distances stand beside ours where they are known. They are read off its figure, to about three digits; it
takes them on 50,000 samples with pytorch-fid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from proxdm.data.errors import unknown_name
from proxdm.experiments.toy import STEPS as TOY_STEPS

BlockName = Literal["toy", "mnist", "cifar10", "celebahq"]

STEPS = (5, 10, 20, 50, 100, 1000)
"""The paper's numbers of steps."""

SUBSET_STEPS = (5, 10, 20)
"""Those of the models that are trained for few steps only."""

BACKWARD_STEPS = (20, 50, 100, 1000)
"""Those that the backward model is trained for; the step itself is defined for N >= 10."""

SAMPLES = 50_000
"""Samples of a Fréchet distance."""

PICTURES = 64
"""Samples on a grid of pictures."""


@dataclass(frozen=True)
class Sweep:
    """The Fréchet distance of one model with one sampler, for several numbers of steps.

    Attributes:
        name: Name of the experiment.
        preset: The model.
        sampler: Name of the rule, on its usual grid.
        steps: Numbers of steps N.
        samples: Samples of every distance.
        paper: The paper's distance by N, where it is known.
    """

    name: str
    preset: str
    sampler: str
    steps: tuple[int, ...]
    samples: int = SAMPLES
    paper: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Pictures:
    """Pictures of one model with one sampler, for several numbers of steps.

    Attributes:
        name: Name of the experiment.
        preset: The model.
        sampler: Name of the rule, on its usual grid.
        steps: Numbers of steps N, one grid of pictures each.
        samples: Pictures on a grid.
    """

    name: str
    preset: str
    sampler: str
    steps: tuple[int, ...]
    samples: int = PICTURES


@dataclass(frozen=True)
class Synthetic:
    """The synthetic experiment (:mod:`proxdm.experiments.toy`), which trains nothing.

    Attributes:
        name: Name of the experiment.
        dataset: One of the Datasaurus sets.
        steps: Numbers of steps N.
        samples: Particles.
        seeds: Number of seeds.
    """

    name: str
    dataset: str
    steps: tuple[int, ...]
    samples: int = 1000
    seeds: int = 3


Experiment = Sweep | Pictures | Synthetic


@dataclass(frozen=True)
class Block:
    """Everything that belongs to one data set.

    Attributes:
        name: Name on the command line.
        title: What it is.
        dataset: The data set, a name in :data:`proxdm.data.known.DATASETS`; None where none is needed.
        experiments: What is measured; the models are those that it needs.
    """

    name: BlockName
    title: str
    dataset: str | None
    experiments: tuple[Experiment, ...]

    @property
    def presets(self) -> tuple[str, ...]:
        """The models, in the order in which they are needed."""
        return tuple(dict.fromkeys(one.preset for one in self.experiments if not isinstance(one, Synthetic)))

    def only(self, names: Sequence[str] = (), steps: Sequence[int] = ()) -> Block:
        """Return the part of the block that the names stand for.

        Args:
            names: Of experiments, or of presets, which stand for all experiments with that model; none is all.
            steps: Numbers of steps to keep; none is all. What has none of them is left out.

        Raises:
            ValueError: A name or a number of steps is not in the block, or nothing is left.
        """
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


def _fid(*values: float, steps: Sequence[int] = STEPS) -> dict[int, float]:
    return dict(zip(steps, values, strict=True))


def _subset(*values: float) -> dict[int, float]:
    return _fid(*values, steps=SUBSET_STEPS)


BLOCKS: dict[BlockName, Block] = {
    block.name: block
    for block in (
        Block(
            "toy",
            "the synthetic experiment: exact operators on the Datasaurus dino, W2 against N",
            None,
            (Synthetic("toy-dino", "dino", TOY_STEPS),),
        ),
        Block(
            "mnist",
            "MNIST at 32x32: FID against the number of steps",
            "mnist",
            (
                Sweep("mnist-score-sde", "mnist-score", "euler-maruyama", STEPS),
                Sweep("mnist-score-ode", "mnist-score", "ode-euler", STEPS),
                Sweep("mnist-prox-hybrid", "mnist-prox-hybrid", "prox-hybrid", STEPS),
                Sweep("mnist-prox-backward", "mnist-prox-backward", "prox-backward", BACKWARD_STEPS),
            ),
        ),
        Block(
            "cifar10",
            "CIFAR-10: FID against the number of steps, and models trained for 5, 10 and 20 steps only",
            "cifar10",
            (
                Sweep(
                    "cifar10-score-sde",
                    "cifar10-score",
                    "euler-maruyama",
                    STEPS,
                    paper=_fid(340, 269, 184, 80.4, 42.5, 3.26),
                ),
                Sweep(
                    "cifar10-score-ode",
                    "cifar10-score",
                    "ode-euler",
                    STEPS,
                    paper=_fid(281, 103, 28.9, 8.24, 4.86, 3.52),
                ),
                Sweep(
                    "cifar10-prox-hybrid",
                    "cifar10-prox-hybrid",
                    "prox-hybrid",
                    STEPS,
                    paper=_fid(245, 28.9, 13.5, 5.75, 4.36, 4.61),
                ),
                Sweep(
                    "cifar10-score-subset-sde",
                    "cifar10-score-subset",
                    "euler-maruyama",
                    SUBSET_STEPS,
                    paper=_subset(327, 276, 194),
                ),
                Sweep(
                    "cifar10-score-subset-ode",
                    "cifar10-score-subset",
                    "ode-euler",
                    SUBSET_STEPS,
                    paper=_subset(285, 109, 35.7),
                ),
                Sweep(
                    "cifar10-prox-hybrid-subset",
                    "cifar10-prox-hybrid-subset",
                    "prox-hybrid",
                    SUBSET_STEPS,
                    paper=_subset(89.9, 25.1, 17.3),
                ),
                Sweep(
                    "cifar10-prox-hybrid-subset-noheur",
                    "cifar10-prox-hybrid-subset-noheur",
                    "prox-hybrid",
                    SUBSET_STEPS,
                ),
            ),
        ),
        Block(
            "celebahq",
            "CelebA-HQ 256x256 in the latent space of an autoencoder: pictures against the number of steps",
            "celebahq-latents",
            (
                Pictures("celebahq-score-sde", "celebahq-score", "euler-maruyama", STEPS),
                Pictures("celebahq-prox-hybrid", "celebahq-prox-hybrid", "prox-hybrid", STEPS),
            ),
        ),
    )
}
"""Every block by name."""
