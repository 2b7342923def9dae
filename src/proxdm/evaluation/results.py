"""Rows of results: one JSON object a line in `results.jsonl` (:class:`proxdm.runtime.files.JsonLines`)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from proxdm.sweep import Row

RESULTS = "results.jsonl"

IDENTITY = ("digest", "sampler", "grid", "steps", "samples", "seed", "bf16", "features", "reference", "prior",
            "classes", "guidance")  # fmt: skip
"""What makes two rows the same measurement; where it was made, and how fast, does not count."""

SOMETIMES = ("operator", "prior", "classes", "guidance")
"""What only some rows have."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRow(Row):
    """One line of the results; `seconds` is the time for samples and their features, interrupted runs included.

    Attributes:
        source: Name that the model was asked for by.
        preset: Preset of its configuration, if it has one.
        weights: Name of the weight set.
        digest: SHA-256 of the weights.
        grid: Times it went through, by name and parameters.
        samples: Number of samples.
        chunk: Samples in one call of the network.
        bf16: Whether the network ran in bfloat16.
        features: What the metrics were taken on: name, dim, weights (SHA-256) and resize.
        reference: What the samples were compared with: name, kind, sha256, dataset, split and n.
        used: For every metric, the number of samples and of reference images it was taken on (None: not known).
        metric_seconds: Time for metrics, and for the reference where it had to be computed.
        images_per_second: Samples over that time.
        nfe_per_second: Network evaluations over that time.
        versions: Of proxdm, torch and Python.
        device: Where it was computed.
        processes: Number of processes.
        finished: When, in UTC (ISO 8601).
        picture: File with the first samples, beside the results.
        compile: Whether the network was compiled.
        operator: What stood for the operator that the sampler asks for, e.g. `posterior-mean`; None if nothing did.
        prior: Kind, sizes and pictures of the prior that the sampler started from; None if it had none.
        classes: Names of the classes that the samples had in turn, if some were chosen.
        guidance: w of classifier-free guidance, of a model of classes.
    """

    source: str
    preset: str | None
    weights: str
    digest: str
    grid: str
    samples: int
    chunk: int
    bf16: bool
    features: Mapping[str, Any]
    reference: Mapping[str, Any]
    used: Mapping[str, Sequence[int | None]]
    metric_seconds: float
    images_per_second: float
    nfe_per_second: float
    versions: Mapping[str, str]
    device: str
    processes: int
    finished: str
    picture: str | None = None
    compile: bool = False
    operator: str | None = None
    prior: Mapping[str, Any] | None = None
    classes: Sequence[str] | None = None
    guidance: float | None = None

    @property
    def told(self) -> str:
        """Classes and guidance in words; nothing of a model without classes."""
        return ", ".join([*(self.classes or ()), *([] if self.guidance is None else [f"guidance {self.guidance:g}"])])

    def record(self) -> dict[str, Any]:
        """Return it in plain types, as a line of the results holds it."""
        record = asdict(self)
        del record["target"]  # it is the source
        return {name: value for name, value in record.items() if name not in SOMETIMES or value is not None}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> EvaluationRow:
        """Return the row of a line; what a newer version has added is left out."""
        known = {field.name: record[field.name] for field in fields(cls) if field.name in record}
        try:
            return cls(**known)
        except TypeError as error:
            raise ValueError(f"this is no row of results ({error})") from None


def identity(record: Mapping[str, Any]) -> str:
    """Return what makes two rows the same measurement, as one string."""
    parts = {name: record.get(name) for name in IDENTITY if name not in SOMETIMES or record.get(name) is not None}
    if isinstance(reference := parts["reference"], Mapping):
        parts["reference"] = reference.get("sha256")
    return json.dumps(parts, sort_keys=True)


def find_row(records: Sequence[Mapping[str, Any]], wanted: str, values: Sequence[str]) -> EvaluationRow | None:
    """Return the latest of some lines that has that identity and values of all these names, or None."""
    for record in reversed(records):
        metrics = record.get("metrics")
        if isinstance(metrics, Mapping) and set(values) <= set(metrics) and identity(record) == wanted:
            return EvaluationRow.of_record(record)
    return None


def folder_name(source: str) -> str:
    """Return the name of a source as that of a folder: `runs/a` is `a`, `owner/name@main` is `name-main`."""
    name = Path(source).resolve().name if Path(source).exists() else source.rpartition("/")[2]
    return re.sub(r"[^\w.-]+", "-", name.removesuffix(".safetensors").removesuffix(".pth")) or "model"
