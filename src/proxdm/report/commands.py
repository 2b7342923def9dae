"""The commands that would train a run and measure rows again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from proxdm.config import Config, ConfigError, to_dict
from proxdm.evaluation.comparison import grid_kind
from proxdm.evaluation.results import EvaluationRow
from proxdm.presets import get_preset
from proxdm.rules import RULES
from proxdm.samplers import default_grid

_WIDTH = 70
_PARAMETER = re.compile(r"(?P<name>eps|rho)=(?P<value>[\d.e+-]+)")


def train_command(config: Config, out: Path) -> str | None:
    """Return the command that trains a run with this configuration; None if its preset is not one of the package.

    Args:
        config: The configuration.
        out: Folder of the run.
    """
    try:
        preset = get_preset(config.preset)
    except ConfigError:
        return None
    flags: list[str] = []
    for name, value in _changes(to_dict(preset), to_dict(config), ""):
        flags += ["--import", *value] if name == "imports" else _flag(name, value)
    return _joined(["proxdm", "train", config.preset, "--out", str(out), *flags])


def evaluate_commands(rows: Iterable[EvaluationRow]) -> list[str]:
    """Return the commands that measure these rows again, one for every model, way and steps and seeds.

    How pictures of a reference were cut and resized is not in the rows; its digest says whether it is the same.

    Args:
        rows: The rows.
    """
    cells: dict[tuple[Any, ...], dict[int, dict[int, EvaluationRow]]] = {}
    for row in rows:
        cells.setdefault((row.sampler, *_way(row)), {}).setdefault(row.seed, {})[row.steps] = row
    # A command measures every combination, so it takes what has the same steps and seeds.
    commands: dict[tuple[Any, ...], list[EvaluationRow]] = {}
    for (_, *way), seeds in cells.items():
        for run in _runs({seed: frozenset(steps) for seed, steps in seeds.items()}):
            members = [row for seed in run for row in seeds[seed].values()]
            commands.setdefault((*way, frozenset(seeds[run[0]]), *run), []).extend(members)
    return [_joined(_evaluate(members)) for members in commands.values()]


def _joined(words: Sequence[str]) -> str:
    """Return a command as the shell reads it; a long one on several lines, each with as many options as it can hold."""
    lines = [""]
    for word in words:
        quoted = shlex.quote(word)
        if word.startswith("--") and len(lines[-1]) + len(quoted) > _WIDTH:
            lines.append("   ")
        lines[-1] += f" {quoted}" if lines[-1] else quoted
    return " \\\n".join(lines)


def _evaluate(rows: Sequence[EvaluationRow]) -> list[str]:
    first, seeds = rows[0], sorted({row.seed for row in rows})
    command = ["proxdm", "evaluate", first.source]
    if first.source.endswith(".pth") and first.preset:
        command += ["--preset", first.preset]
    command += ["--weights", first.weights]
    command += ["--sampler", *dict.fromkeys(row.sampler for row in rows)]
    command += ["--steps", *map(str, sorted({row.steps for row in rows}))]
    command += ["--samples", str(first.samples), "--features", _features(first)]
    command += ["--reference", str(first.reference.get("name"))]
    if first.reference.get("split") not in (None, "", "train"):
        command += ["--split", str(first.reference["split"])]
    command += ["--metrics", *dict.fromkeys(name for row in rows for name in row.used)]
    command += ["--seed", str(seeds[0]), *(["--seeds", str(len(seeds))] if len(seeds) > 1 else [])]
    if (grid := _grid(first)) is not None:
        kind, _, _ = grid.partition(",")
        command += ["--grid", kind]
        for match in _PARAMETER.finditer(grid):
            command += [f"--{match['name']}", match["value"]]
    known = {"--bf16": first.bf16, "--compile": first.compile, "--force": "forced" in first.reference}
    switches = [flag for flag, on in known.items() if on]
    return [*command, "--chunk", str(first.chunk), *switches]


def _way(row: EvaluationRow) -> tuple[Any, ...]:
    """Return what rows of one command have in common."""
    return (row.source, row.weights, row.samples, _features(row), row.reference.get("sha256"), _grid(row), row.chunk,
            row.bf16, row.compile)  # fmt: skip


def _features(row: EvaluationRow) -> str:
    return str(row.features.get("name"))


def _grid(row: EvaluationRow) -> str | None:
    """Return the kind of the grid of a row; None if it is the usual one of its sampler."""
    usual = default_grid(RULES[row.sampler], row.steps).name if row.sampler in RULES else None
    return None if row.grid == usual else grid_kind(row.grid)


def _runs(seeds: Mapping[int, frozenset[int]]) -> list[list[int]]:
    """Return runs of seeds that follow each other and have the same steps."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and seed == runs[-1][-1] + 1 and seeds[seed] == seeds[runs[-1][-1]]:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return runs


def _changes(base: Mapping[str, Any], wanted: Mapping[str, Any], path: str) -> list[tuple[str, Any]]:
    """Return dotted names and values of the fields of `wanted` that `base` has otherwise."""
    found: list[tuple[str, Any]] = []
    for key, value in wanted.items():
        mine = base.get(key)
        if isinstance(mine, Mapping) and isinstance(value, Mapping):
            found += _changes(mine, value, f"{path}{key}.")
        elif mine != value:
            found.append((f"{path}{key}", value))
    return found


def _flag(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        head, _, last = flag.rpartition(".")
        return [flag] if value else [f"{head}.no-{last}"]
    if isinstance(value, list):
        return [flag, *map(str, value)]
    return [flag, str(value)]
