"""Steps of a reproduction: what each makes, whether that is there already, and the command that one would type.

A step is the verb of the command line that does the same, with its options as fields. It is done when what it makes is
there; an evaluation never is, since its rows are looked up by model, features and reference, which must be open.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, Literal, Self

from proxdm.checkpoints import store
from proxdm.config import Config
from proxdm.evaluation import EvaluationPlan
from proxdm.evaluation.results import RESULTS
from proxdm.experiments.commands import config_flags, flags
from proxdm.presets import get_preset

TOY_RESULTS = "results.json"
"""What `proxdm toy` writes last."""

FIGURE = "compare.json"
"""What `proxdm compare` writes last."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step; fields that are not listed are options of the verb."""

    verb: ClassVar[str]  # Verb of the command line
    named: ClassVar[tuple[str, ...]] = ()  # Fields that the command has without a flag
    about: str  # How much it is, in words
    out: Path  # File or folder that is there when it is done

    @property
    def words(self) -> list[str]:
        """The command after `proxdm`, as words."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "about"}
        out = values.pop("out")
        return [self.verb, *(str(values.pop(name)) for name in self.named), *flags(**values, out=out)]

    @property
    def command(self) -> str:
        """The command line as one types it."""
        return shlex.join(["proxdm", *self.words])

    def left(self) -> Self | None:
        """Return what is left of it: itself, itself from where it was interrupted, or None if it is done."""
        return None if self.out.exists() else self


@dataclass(frozen=True, kw_only=True)
class Download(Step):
    """A file of the paper's authors (a model, statistics), or the weights of the Inception network."""

    verb = "download"
    what: Literal["models", "stats", "inception"]
    name: str = ""

    @property
    def words(self) -> list[str]:
        """The command after `proxdm`, as words."""
        return [self.verb, self.what, *([self.name, *flags(out=self.out.parent)] if self.name else [])]


@dataclass(frozen=True, kw_only=True)
class Statistics(Step):
    """Mean and covariance of the features of a data set (:func:`proxdm.metrics.statistics.compute_statistics`)."""

    verb = "stats"
    named = ("dataset",)
    dataset: str
    root: Path | None
    features: Path | None
    inception_weights: Path | None
    device: str | None


@dataclass(frozen=True, kw_only=True)
class Train(Step):
    """A training (:func:`proxdm.training.train`), or the rest of one."""

    verb = "train"
    config: Config
    resume: bool = False

    @property
    def words(self) -> list[str]:
        """The command after `proxdm`, as words."""
        base = store.read_config(self.out) if self.resume else get_preset(self.config.preset)
        more = [*config_flags(base, self.config), *flags(resume=self.resume)]
        return [self.verb, self.config.preset, *flags(out=self.out), *more]

    def left(self) -> Self | None:
        """Return itself, itself with `resume`, or None if a run of as many steps is there."""
        if not store.is_run(self.out):
            return self
        store.check_same_run(store.read_config(self.out), self.config)
        latest = store.latest(self.out)
        done = latest is not None and latest.step >= self.config.training.steps
        return None if done else replace(self, resume=True)


@dataclass(frozen=True, kw_only=True)
class _OfModel(Step):
    """What is made of a model with one sampler; `preset` is that of the authors' file, None for ours."""

    named = ("source",)
    source: Path
    preset: str | None
    sampler: str
    samples: int
    device: str | None
    bf16: bool


@dataclass(frozen=True, kw_only=True)
class Evaluate(_OfModel):
    """The rows of one sweep (:func:`proxdm.evaluation.evaluate`)."""

    verb = "evaluate"
    steps: tuple[int, ...]
    reference: Path
    features: Path | None
    inception_weights: Path | None
    chunk: int | None

    def __post_init__(self) -> None:
        """Check every value that does not need the model."""
        _ = self.plan

    @property
    def plan(self) -> EvaluationPlan:
        """What to measure."""
        return EvaluationPlan(
            samplers=(self.sampler,),
            steps=self.steps,
            samples=self.samples,
            reference=str(self.reference),
            features=str(self.features or "inception"),
            inception_weights=self.inception_weights,
            chunk=self.chunk,
            bf16=self.bf16,
        )

    def left(self) -> Self:
        """Return itself."""
        return self


@dataclass(frozen=True, kw_only=True)
class Sample(_OfModel):
    """A grid of pictures."""

    verb = "sample"
    steps: int
    vae: Path | None


@dataclass(frozen=True, kw_only=True)
class Compare(Step):
    """Table and figure of all rows so far."""

    verb = "compare"
    named = ("rows",)
    rows: Path
    metrics: str = "fid"
    overwrite: bool = True

    def left(self) -> Self | None:
        """Return itself, or None if the figure is not older than any of the rows in it."""
        made, rows = self.out / FIGURE, self.rows.glob(f"*/{RESULTS}")
        done = made.exists() and all(path.stat().st_mtime <= made.stat().st_mtime for path in rows)
        return None if done else self


@dataclass(frozen=True, kw_only=True)
class Toy(Step):
    """The synthetic experiment (:func:`proxdm.experiments.toy.run_toy`) with its figures."""

    verb = "toy"
    dataset: str
    steps: tuple[int, ...]
    samples: int
    seeds: int
    no_animation: bool

    def left(self) -> Self | None:
        """Return itself, or None if the results are there, with these numbers."""
        try:
            record = json.loads((self.out / TOY_RESULTS).read_text(encoding="utf-8"))
            found = record["dataset"], record["samples"], len(record["seeds"]), record["prox_mode"]
            steps = {int(n) for of in ("methods", "skipped") for cells in record[of].values() for n in cells}
        except (OSError, ValueError, KeyError, TypeError):
            return self
        wanted = (self.dataset, self.samples, self.seeds, "global", set(self.steps))
        return None if (*found, steps) == wanted else self
