"""Rows of results: one JSON object a line in `results.jsonl` (:class:`proxdm.runtime.files.JsonLines`).

They are read back from any number of files, each checked, with the folder that its picture is in.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from proxdm.config.codec import from_dict
from proxdm.metrics.registry import METRICS, on_pixels
from proxdm.runtime.files import JsonLines
from proxdm.sweep import Row

RESULTS = "results.jsonl"

IDENTITY = ("digest", "sampler", "grid", "steps", "samples", "seed", "bf16", "features", "reference", "prior",
            "classes", "guidance")  # fmt: skip
"""What makes two rows the same measurement; where it was made, and how fast, does not count."""

SOMETIMES = ("operator", "prior", "classes", "guidance")
"""What only some rows have."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRow(Row):
    """One line of the results; `seconds` is the time for samples and their features, interrupted runs included."""

    source: str  # Name that the model was asked for by
    preset: str | None  # Preset of its configuration, if it has one
    weights: str  # Name of the weight set
    digest: str  # SHA-256 of the weights
    grid: str  # Times it went through, by name and parameters
    samples: int  # Number of samples
    chunk: int  # Samples in one call of the network
    bf16: bool  # Whether the network ran in bfloat16
    features: Mapping[str, Any]  # What the metrics were taken on: name, dim, weights (SHA-256) and resize
    reference: Mapping[str, Any]  # What the samples were compared with: name, kind, sha256, dataset, split and n
    # For every metric, the number of samples and of reference images it was taken on (None: not known)
    used: Mapping[str, list[int | None]]
    metric_seconds: float  # Time for metrics, and for the reference where it had to be computed
    images_per_second: float  # Samples over that time
    nfe_per_second: float  # Network evaluations over that time
    versions: Mapping[str, str]  # Of proxdm, torch and Python
    device: str  # Where it was computed
    processes: int  # Number of processes
    finished: str  # When, in UTC (ISO 8601)
    picture: str | None = None  # File with the first samples, beside the results
    compile: bool = False  # Whether the network was compiled
    # What stood for the operator that the sampler asks for, e.g. `posterior-mean`; None if nothing did
    operator: str | None = None
    # Kind, sizes and pictures of the prior that the sampler started from; None if it had none
    prior: Mapping[str, Any] | None = None
    classes: list[str] | None = None  # Names of the classes that the samples had in turn, if some were chosen
    guidance: float | None = None  # w of classifier-free guidance, of a model of classes
    # Folder that it was read from, with its picture; not in the line, and no part of what was measured
    folder: Path | None = field(default=None, compare=False)

    @property
    def told(self) -> str:
        """Classes and guidance in words; nothing of a model without classes."""
        return ", ".join([*(self.classes or ()), *([] if self.guidance is None else [f"guidance {self.guidance:g}"])])

    def record(self) -> dict[str, Any]:
        """Return it in plain types, as a line of the results holds it."""
        record = asdict(self)
        del record["folder"]
        return {name: value for name, value in record.items() if name not in SOMETIMES or value is not None}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> EvaluationRow:
        """Return the row of a line, its types checked (ValueError); what a newer version has added is left out."""
        return from_dict({one.name: record[one.name] for one in fields(cls) if one.name in record}, cls)


def identity(record: Mapping[str, Any], *, leave: Sequence[str] = ()) -> str:
    """Return what makes two rows the same measurement, as one string, but for what is to `leave` out."""
    names = [name for name in IDENTITY if name not in leave]
    parts = {name: record.get(name) for name in names if name not in SOMETIMES or record.get(name) is not None}
    if isinstance(reference := parts["reference"], Mapping):
        parts["reference"] = reference.get("sha256")
    return json.dumps(parts, sort_keys=True)


def find_row(
    records: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any], metrics: Sequence[str]
) -> EvaluationRow | None:
    """Return the latest of some lines that is the same measurement and has all these metrics, or None.

    Where all of them are taken on pixels, the features of the line do not count.
    """
    values = {value for name in metrics for value in METRICS[name].values}
    leave = ("features",) if on_pixels(metrics) else ()
    same = identity(wanted, leave=leave)
    for record in reversed(records):
        found = record.get("metrics")
        if isinstance(found, Mapping) and values <= set(found) and identity(record, leave=leave) == same:
            return EvaluationRow.of_record(record)
    return None


def find_results(path: Path) -> list[Path]:
    """Return the results files that a path stands for: itself, the one in it, or those in the folders in it."""
    if path.is_file():
        return [path]
    if (path / RESULTS).is_file():
        return [path / RESULTS]
    return sorted(path.glob(f"*/{RESULTS}"))


def read_results(path: Path) -> list[EvaluationRow]:
    """Return all rows of a results file, or of a folder that holds one or has sub-folders that do."""
    if not (files := find_results(path)):
        what = f"{path} holds no {RESULTS}, and neither do its folders" if path.is_dir() else f"{path} does not exist"
        raise ValueError(f"no results found: {what}; make them with proxdm evaluate")
    found = []
    for file in files:
        for number, record in enumerate(JsonLines(file).records(), 1):
            try:
                found.append(replace(_checked(EvaluationRow.of_record(record)), folder=file.parent))
            except ValueError as error:
                raise ValueError(
                    f"row {number} of {file} is damaged: {error}; remove it, or measure it again"
                ) from None
    if not found:
        raise ValueError(f"no results found: {', '.join(map(str, files))} has no rows; make them with proxdm evaluate")
    return found


def folder_name(source: str) -> str:
    """Return the name of a source as that of a folder: `runs/a` is `a`, `owner/name@main` is `name-main`."""
    name = Path(source).resolve().name if Path(source).exists() else source.rpartition("/")[2]
    return re.sub(r"[^\w.-]+", "-", name.removesuffix(".safetensors").removesuffix(".pth")) or "model"


def _checked(row: EvaluationRow) -> EvaluationRow:
    """Return the row; raise ValueError for what its types allow and no evaluation writes."""
    for name, value in {**vars(row), **row.metrics}.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} = {value!r} is no finite number")
    if not all(row.used.values()):
        raise ValueError("used holds an empty list")
    return row
