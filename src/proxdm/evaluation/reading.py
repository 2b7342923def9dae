"""Rows of results read back from any number of files, each checked, with the folder that its picture is in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxdm.evaluation.results import RESULTS, EvaluationRow
from proxdm.runtime.files import JsonLines

_TYPES: dict[type, tuple[str, ...]] = {
    float: ("steps", "nfe", "samples", "seed", "seconds", "images_per_second"),
    str: ("source", "weights", "digest", "sampler", "grid", "device", "finished"),
    Mapping: ("features", "reference", "metrics", "used", "versions"),
}


@dataclass(frozen=True)
class Measured:
    """A row, and where it was read."""

    row: EvaluationRow  # The row
    folder: Path | None = None  # Folder of its results, where its picture is; None if it is in no folder


def find_results(path: Path) -> list[Path]:
    """Return the results files that a path stands for: itself, the one in it, or those in the folders in it."""
    if path.is_file():
        return [path]
    if (path / RESULTS).is_file():
        return [path / RESULTS]
    return sorted(path.glob(f"*/{RESULTS}"))


def read_results(path: Path) -> list[Measured]:
    """Return all rows of a results file, or of a folder that holds one or has sub-folders that do."""
    if not (files := find_results(path)):
        what = f"{path} holds no {RESULTS}, and neither do its folders" if path.is_dir() else f"{path} does not exist"
        raise ValueError(f"no results found: {what}; make them with proxdm evaluate")
    found = []
    for file in files:
        for number, record in enumerate(JsonLines(file).records(), 1):
            try:
                found.append(Measured(_checked(EvaluationRow.of_record(record)), file.parent))
            except ValueError as error:
                raise ValueError(
                    f"row {number} of {file} is damaged: {error}; remove it, or measure it again"
                ) from None
    if not found:
        raise ValueError(f"no results found: {', '.join(map(str, files))} has no rows; make them with proxdm evaluate")
    return found


def _checked(row: EvaluationRow) -> EvaluationRow:
    """Return the row; raise ValueError unless its values are of the types that are used here."""
    for kind, what in ((str, "text"), (Mapping, "object")):
        if wrong := [name for name in _TYPES[kind] if not isinstance(getattr(row, name), kind)]:
            raise ValueError(f"{wrong[0]} is no {what}")
    for name, value in {**{name: getattr(row, name) for name in _TYPES[float]}, **row.metrics}.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} = {value!r} is no finite number")
    for name, counts in row.used.items():
        if not isinstance(counts, Sequence) or isinstance(counts, str) or not counts:
            raise ValueError(f"used.{name} is no list")
    if not isinstance(row.picture, str | None):
        raise ValueError("picture is no text")
    return row
