"""`proxdm info`: what stands behind a name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tyro.conf import Positional

from proxdm.checkpoints.describe import describe_draws, describe_network, trained_range
from proxdm.checkpoints.load import Found, default_sampler, default_steps, find, fitting_samplers, is_official
from proxdm.checkpoints.official import describe_official
from proxdm.checkpoints.portable import model_config
from proxdm.checkpoints.store import TrainingState, checkpoints
from proxdm.cli import parse
from proxdm.config import Config, to_dict


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
    else:
        print(text(facts))
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
    return _official(source) if is_official(source) else _found(find(source, weights))


def text(facts: Mapping[str, Any]) -> str:
    """Return the facts as aligned lines; the configuration is left out."""
    shown = {key.replace("_", " "): value for key, value in facts.items() if value is not None and key != "config"}
    width = max(map(len, shown))
    return "\n".join(f"{key:<{width}}  {_words(value)}" for key, value in shown.items())


def _official(source: str) -> dict[str, Any]:
    info = describe_official(source)
    kind: Literal["score", "prox"] = "prox" if info.kind == "prox" else "score"
    return {
        "source": source,
        "what": "one of the paper's checkpoints",
        "model": kind,
        "network": describe_network(info.network),
        "parameters": info.parameters,
        "weight_sets": list(info.weight_sets),
        "recorded_losses": info.train_losses,
        "samplers": fitting_samplers(kind),
    }


def _found(found: Found) -> dict[str, Any]:
    config, model = found.config, model_config(found.config)
    what = {
        "run": "a training run",
        "checkpoint": "a checkpoint of a training run",
        "file": "a model file",
        "folder": "a model folder",
        "hub": "a repository on the hub",
    }
    return {
        "source": found.source,
        "what": what[found.kind],
        "file": str(found.file.path),
        "model": model.kind,
        "shape": list(model.shape),
        "network": describe_network(model.network),
        "parametrisation": model.parametrisation,
        "parameters": found.file.parameters,
        "beta": [model.beta_min, model.beta_max],
        "weights": found.weights,
        "weight_sets": list(found.weight_sets),
        "step": found.file.step,
        "origin": found.file.origin,
        **(_training(found, config) if isinstance(config, Config) else {}),
        "samplers": fitting_samplers(model.kind),
        "default_sampler": default_sampler(config).name,
        "default_steps": default_steps(config),
        "written_by": found.file.version,
        "config": to_dict(config),
    }


def _training(found: Found, config: Config) -> dict[str, Any]:
    state, trained = _state(found), trained_range(config)
    return {
        "preset": config.preset,
        "data": config.data.name,
        "training_steps": config.training.steps,
        "training_seconds": None if state is None else state.seconds,
        "skipped_steps": None if state is None else state.skipped,
        "trained_at": describe_draws(config),
        "t_range": list(trained.t),
        "lam_range": None if trained.lam is None else list(trained.lam),
    }


def _state(found: Found) -> TrainingState | None:
    """Return position and counters of a training checkpoint, or None for other sources."""
    if found.checkpoint is None:
        return None
    run = found.checkpoint.parent.parent
    return next((one.state for one in checkpoints(run) if one.path == found.checkpoint), None)


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
