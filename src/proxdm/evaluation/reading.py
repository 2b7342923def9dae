"""Rows of results read back from any number of files, each checked, with the folder that its picture is in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxdm.evaluation.results import RESULTS, EvaluationRow, ResultsFile

_NUMBERS = ("steps", "nfe", "samples", "seed", "seconds", "images_per_second")


@dataclass(frozen=True)
class Measured:
    """A row, and where it was read.

    Attributes:
        row: The row.
        folder: Folder of its results, where its picture is; None if it is in no folder.
    """

    row: EvaluationRow
    folder: Path | None = None


def find_results(path: Path) -> list[Path]:
    """Return the results files that a path stands for: itself, the one in it, or those in the folders in it."""
    if path.is_file():
        return [path]
    if (path / RESULTS).is_file():
        return [path / RESULTS]
    return sorted(path.glob(f"*/{RESULTS}"))


def read_results(path: Path) -> list[Measured]:
    """Return all rows of a results file, or of a folder that holds one or has sub-folders that do.

    Raises:
        OutputError: A line is not JSON.
        ValueError: There are no results, or a line is no row.
    """
    if not (files := find_results(path)):
        what = f"{path} holds no {RESULTS}, and neither do its folders" if path.is_dir() else f"{path} does not exist"
        raise ValueError(f"no results found: {what}; make them with proxdm evaluate")
    found = [Measured(row, file.parent) for file in files for row in _rows(file)]
    if not found:
        raise ValueError(f"no results found: {', '.join(map(str, files))} has no rows; make them with proxdm evaluate")
    return found


def _rows(file: Path) -> list[EvaluationRow]:
    found = []
    for number, record in enumerate(ResultsFile(file).records(), 1):
        try:
            row = EvaluationRow.of_record(record)
            _check(row)
        except ValueError as error:
            raise ValueError(f"row {number} of {file} is damaged: {error}; remove it, or measure it again") from None
        found.append(row)
    return found


def _check(row: EvaluationRow) -> None:
    """Raise ValueError unless the values of a row are of the types that are used here."""
    for name in _NUMBERS:
        _number(name, getattr(row, name))
    for name in ("features", "reference", "metrics", "used", "versions"):
        if not isinstance(getattr(row, name), Mapping):
            raise ValueError(f"{name} is no object")
    for name in ("source", "weights", "digest", "sampler", "grid", "device", "finished"):
        if not isinstance(getattr(row, name), str):
            raise ValueError(f"{name} is no text")
    for name, value in row.metrics.items():
        _number(name, value)
    for name, counts in row.used.items():
        if not isinstance(counts, Sequence) or isinstance(counts, str) or not counts:
            raise ValueError(f"used.{name} is no list")
    if not isinstance(row.picture, str | None):
        raise ValueError("picture is no text")


def _number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} = {value!r} is no finite number")
