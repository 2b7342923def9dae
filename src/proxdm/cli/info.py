"""`proxdm info`: what stands behind a name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tyro.conf import Positional

from proxdm.checkpoints.load import find
from proxdm.checkpoints.official import read_official
from proxdm.config import to_json
from proxdm.describe import in_words, model_facts, training_facts
from proxdm.generation import fitting_samplers

WHAT = {
    "run": "a training run",
    "checkpoint": "a checkpoint of a training run",
    "file": "a model file",
    "folder": "a model folder",
    "hub": "a repository on the hub",
    "box": "a model in the box",
}


@dataclass(frozen=True)
class Info:
    """Say what a run, a checkpoint, a model file or folder, a hub repository or one of the paper's .pth files holds."""

    source: Positional[str]  # The source.
    weights: str | None = None  # Weight set to look at; by default the moving average.
    json: bool = False  # Print one JSON object, the whole configuration included.


def run(options: Info, prog: str) -> int:
    """Run the verb and return the exit status."""
    facts = describe(options.source, options.weights)
    if options.json:
        print(json.dumps(facts, indent=2, allow_nan=False))
        return 0
    shown = in_words({key: value for key, value in facts.items() if key != "config"})
    width = max(map(len, shown))
    print("\n".join(f"{key:<{width}}  {value}" for key, value in shown.items()))
    return 0


def describe(source: str, weights: str | None = None) -> dict[str, Any]:
    """Return the facts about a source, in plain types; no weights are read, except to check a `.pth` file."""
    if source.endswith(".pth"):
        file = read_official(source)
        return {
            "source": source,
            "what": "one of the paper's checkpoints",
            "model": file.kind,
            "network": str(file.network),
            "parameters": file.parameters,
            "weight_sets": list(file.weight_sets),
            "samplers": fitting_samplers(file.kind),
        }
    found = find(source, weights)
    place = {"source": found.source, "what": WHAT[found.kind], "file": str(found.file.path)}
    return {**place, **model_facts(found), **training_facts(found), "config": json.loads(to_json(found.config))}
