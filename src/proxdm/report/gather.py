"""What a report is made of: rows of results, and the runs behind them with their configuration and their log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from proxdm.checkpoints.load import Found, find
from proxdm.checkpoints.portable import model_config
from proxdm.checkpoints.store import is_run, read_config, read_log
from proxdm.config import Config, ModelConfig
from proxdm.describe import describe_draws
from proxdm.errors import CheckpointError, ProxdmError
from proxdm.evaluation.comparison import run_name
from proxdm.evaluation.results import EvaluationRow, find_results, folder_name, read_results
from proxdm.runtime.words import duration

EVALUATIONS = Path("evaluations")
"""Where `proxdm evaluate` puts the results of a run unless one says otherwise."""


@dataclass(frozen=True)
class Run:
    """A model that was trained, or converted, and what is known of it."""

    source: str  # Name that it was asked for by
    config: Config | ModelConfig | None  # Its configuration; None where it is not here
    missing: str = ""  # Why the configuration is not here, in words; empty if it is
    log: tuple[Mapping[str, Any], ...] = ()  # Lines of its log, empty where there is none
    found: Found | None = None  # Its present weights, if they are here

    @property
    def name(self) -> str:
        """Its name for people."""
        return run_name(self.source)

    @property
    def folder(self) -> Path | None:
        """The folder of a training run; None for other sources."""
        return Path(self.source) if is_run(Path(self.source)) else None

    @property
    def previews(self) -> list[Path]:
        """Up to four grids of samples that were drawn during the training, evenly, the last among them."""
        found = sorted(self.folder.glob("previews/step-*.png")) if self.folder else []
        return [found[round(i * (len(found) - 1) / 3)] for i in range(4)] if len(found) > 4 else found

    def facts(self) -> list[tuple[str, str]]:
        """Return what it is, as names and values for people."""
        if self.config is None:
            return []
        config, model = self.config, model_config(self.config)
        file = None if self.found is None else self.found.file
        known: list[tuple[str, str | None]] = [
            ("model", f"{model.kind}, output {model.parametrisation}, samples {'×'.join(map(str, model.shape))}"),
            ("network", str(model.network)),
            ("parameters", f"{file.parameters:,}" if file else None),
            ("noise", str(model.schedule)),
        ]
        if isinstance(config, Config):
            seconds = next((line["seconds"] for line in reversed(self.log) if "seconds" in line), None)
            done = "" if file is None or file.step is None else f"{file.step:,} of "
            known += [
                ("preset", config.preset),
                ("data", config.data.name),
                ("trained at", describe_draws(config)),
                ("steps", f"{done}{config.training.steps:,}, batches of {config.training.batch_size}"),
                ("time", duration(seconds) if isinstance(seconds, int | float) else None),
            ]
        return [(name, value) for name, value in known if value]


@dataclass(frozen=True)
class Material:
    """What a report is made of."""

    rows: tuple[EvaluationRow, ...]  # Rows of results
    runs: tuple[Run, ...]  # Runs, those that were named first
    notes: tuple[str, ...] = ()  # What was looked for and is not there, in sentences


def gather(sources: Sequence[str]) -> Material:
    """Return what is known of some runs and results.

    With a run come its results: those in its folder, and those in `evaluations/NAME` whose rows name it. With results
    come the runs and model files that their rows name, where these are here. Nothing is fetched from the hub.
    """
    rows: list[EvaluationRow] = []
    named: list[str] = []
    missing: dict[str, str] = {}
    for source in sources:
        path = Path(source)
        if is_run(path) or path.suffix in (".safetensors", ".pth"):
            named.append(source)
            found = _results_of(path)
            rows += found
            if not found:
                missing[source] = f"{source} has not been evaluated yet: proxdm evaluate {quote(source)}"
        else:
            rows += read_results(path)
    evaluated = {Path(one.source).resolve() for one in rows}
    notes = [note for source, note in missing.items() if Path(source).resolve() not in evaluated]
    # Results that were named twice count once.
    known = {(str(one.folder and one.folder.resolve()), json.dumps(one.record())): one for one in rows}
    rows = list(known.values())
    runs: dict[Path | str, Run] = {}
    for source in (*named, *dict.fromkeys(one.source for one in rows)):
        place: Path | str = Path(source).resolve() if Path(source).exists() else source
        if place not in runs:
            runs[place] = open_run(source, required=source in named)
    return Material(tuple(rows), tuple(runs.values()), tuple(notes))


def open_run(source: str, *, required: bool) -> Run:
    """Return what is known of the model that a row or a user names."""
    path = Path(source)
    if not path.exists():
        if required:
            raise CheckpointError(f"{source} does not exist")
        return Run(source, None, f"{source} is not here")
    log = tuple(read_log(path))
    try:
        found = find(path)
    except ProxdmError as error:
        if is_run(path):  # no checkpoint yet
            return Run(source, read_config(path), log=log)
        if required and path.suffix != ".pth":
            raise
        return Run(source, None, str(error), log=log)
    return Run(source, found.config, log=log, found=found)


def _results_of(path: Path) -> list[EvaluationRow]:
    """Return the rows of a run: in its folder, or where evaluation puts them if they name it."""
    inside = [one for file in (find_results(path) if path.is_dir() else []) for one in read_results(file)]
    usual = EVALUATIONS / folder_name(str(path))
    beside = read_results(usual) if find_results(usual) else []
    return inside + [one for one in beside if Path(one.source).resolve() == path.resolve()]
