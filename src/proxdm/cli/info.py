"""`proxdm info`: what stands behind a name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from proxdm.checkpoints.load import find, is_official
from proxdm.checkpoints.official import read_official
from proxdm.checkpoints.portable import model_config
from proxdm.checkpoints.store import checkpoints
from proxdm.cli import parse
from proxdm.config import Config, to_json
from proxdm.config.describe import describe_draws, trained_range
from proxdm.generation import default_rule, default_steps, fitting_rules

WHAT = {
    "run": "a training run",
    "checkpoint": "a checkpoint of a training run",
    "file": "a model file",
    "folder": "a model folder",
    "hub": "a repository on the hub",
}


@dataclass(frozen=True)
class Info:
    """Say what a run, a checkpoint, a model file or folder, a hub repository or one of the paper's .pth files holds."""

    source: Positional[str]
    """The source."""

    weights: str | None = None
    """Weight set to look at; by default the moving average."""

    json: bool = False
    """Print one JSON object, the whole configuration included."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the verb and return the exit status.

    Args:
        arguments: What stands after the verb.
        prog: Name for help and messages.
    """
    options = parse(Info, arguments, prog)
    facts = describe(options.source, options.weights)
    if options.json:
        print(json.dumps(facts, indent=2, allow_nan=False))
        return 0
    shown = {key.replace("_", " "): value for key, value in facts.items() if value is not None and key != "config"}
    width = max(map(len, shown))
    print("\n".join(f"{key:<{width}}  {_words(value)}" for key, value in shown.items()))
    return 0


def describe(source: str, weights: str | None = None) -> dict[str, Any]:
    """Return the facts about a source, in plain types; no weights are read, except to check a `.pth` file.

    Args:
        source: As `proxdm.load`, or a `.pth` file.
        weights: Weight set; None is the usual one.

    Raises:
        CheckpointError: There is nothing there, or it is damaged.
        HubError: A repository cannot be had.
    """
    if is_official(source):
        file = read_official(source)
        return {
            "source": source,
            "what": "one of the paper's checkpoints",
            "model": file.kind,
            "network": str(file.network),
            "parameters": file.parameters,
            "weight_sets": list(file.weight_sets),
            "recorded_losses": file.train_losses,
            "samplers": fitting_rules(file.kind),
        }
    found = find(source, weights)
    config, model = found.config, model_config(found.config)
    return {
        "source": found.source,
        "what": WHAT[found.kind],
        "file": str(found.file.path),
        "model": model.kind,
        "shape": list(model.shape),
        "network": str(model.network),
        "parametrisation": model.parametrisation,
        "parameters": found.file.parameters,
        "schedule": str(model.schedule),
        "weights": found.weights,
        "weight_sets": list(found.weight_sets),
        "step": found.file.step,
        "origin": found.file.origin,
        **(_training(config, found.checkpoint) if isinstance(config, Config) else {}),
        "samplers": fitting_rules(model.kind),
        "default_sampler": default_rule(config).name,
        "default_steps": default_steps(config),
        "written_by": found.file.version,
        "config": json.loads(to_json(config)),
    }


def _training(config: Config, checkpoint: Path | None) -> dict[str, Any]:
    known = checkpoints(checkpoint.parent.parent) if checkpoint is not None else []
    state = next((one.state for one in known if one.path == checkpoint), None)
    times, lams = trained_range(config)
    return {
        "preset": config.preset,
        "imports": list(config.imports) or None,
        "data": config.data.name,
        "training_steps": config.training.steps,
        "training_seconds": None if state is None else state.seconds,
        "skipped_steps": None if state is None else state.skipped,
        "trained_at": describe_draws(config),
        "t_range": list(times),
        "lam_range": None if lams is None else list(lams),
    }


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
