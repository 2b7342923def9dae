"""What a trained model is, in plain values and in words, for `proxdm info`, model cards and tables."""

from __future__ import annotations

import json
from typing import Any

from proxdm.checkpoints.load import Found, remarks, stored_prior
from proxdm.checkpoints.portable import CONFIG_FILE, model_config
from proxdm.checkpoints.store import Checkpoint, examine
from proxdm.config import Config, to_dict
from proxdm.fitting import in_words as prior_in_words
from proxdm.generation import default_sampler, default_steps, fitting_samplers


def model_facts(found: Found) -> dict[str, Any]:
    """Return what a model is: numbers, strings, lists of them, or None where it is not known."""
    model, file = model_config(found.config), found.file
    return {
        "model": model.kind,
        "shape": list(model.shape),
        "network": str(model.network),
        "parametrisation": model.parametrisation,
        "parameters": file.parameters,
        "schedule": str(model.schedule),
        "classes": list(model.classes) or None,
        "weights": found.weights,
        "weight_sets": list(found.weight_sets),
        "step": file.step,
        "origin": file.origin,
        "samplers": fitting_samplers(model.kind),
        "default_sampler": repr(default_sampler(found.config)),
        "default_steps": default_steps(found.config),
        "prior": None if (prior := stored_prior(found)) is None else prior_in_words(prior),
        "written_by": file.version,
        "remarks": list(remarks(found)) or None,
    }


def training_facts(found: Found) -> dict[str, Any]:
    """Return how a model was trained, like :func:`model_facts`; nothing if neither file nor run says."""
    config = found.config
    if isinstance(config, Config):
        record = to_dict(config)
        facts = {
            "preset": config.preset,
            "imports": list(config.imports) or None,
            "data": config.data.name,
            "flips": config.data.flip,
            "augmented": list(config.data.augment) or None,
            "trained_at": describe_draws(config),
        }
    elif found.checkpoint is not None:  # a run of :func:`proxdm.training.train`
        record = json.loads((found.checkpoint / CONFIG_FILE).read_text(encoding="utf-8"))
        facts = {"data": record["data"], "flips": record["flip"], "trained_at": record["draws"]}
    else:
        return {}
    loss, optimiser, training = record["objective"], record["optimiser"], record["training"]
    zetas = f", then zeta = {', '.join(f'{zeta:g}' for zeta in loss['zetas'])}" if loss["zetas"] else ""
    phases = f"; {loss['l1_steps']:,} steps of l1{zetas}" if loss["l1_steps"] else zetas
    whole = None if found.checkpoint is None else examine(found.checkpoint)
    state = whole.state if isinstance(whole, Checkpoint) else None
    return facts | {
        "objective": f"{loss['loss']} on {loss['target']}{phases}",
        "optimiser": f"AdamW, learning rate {optimiser['lr']:g}, warm-up {optimiser['warmup']:,} steps",
        "training_steps": training["steps"],
        "training_seconds": None if state is None else state.seconds,
        "skipped_steps": None if state is None else state.skipped,
        "batch_size": training["batch_size"],
        "seed": training["seed"],
    }


def in_words(facts: dict[str, Any]) -> dict[str, str]:
    """Return what is known of facts for people: `1,000`, `0.02, 0.98`."""
    return {key.replace("_", " "): _words(value) for key, value in facts.items() if value is not None}


def describe_draws(config: Config) -> str:
    """Return in words where, in t or (t, lam), the network is trained."""
    draws = config.conditioning
    counts = ", ".join(map(str, draws.steps))
    if draws.rule is None:
        return f"times of denoising grids of {counts} steps" if draws.draw == "knots" else "t uniform in (0, 1)"
    *_, least, most = config.training_range.bounds
    weights = f"lam from {least:.3g} to {most:.3g}"
    if draws.draw == "knots":
        return f"{draws.rule} steps of uniform grids of {counts} steps, weights {draws.weights}, {weights}"
    fewest, most_steps = min(draws.steps), max(draws.steps)
    low, high = draws.rho
    return f"{draws.rule} steps of power grids, {fewest} to {most_steps} steps, rho from {low:g} to {high:g}, {weights}"


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
