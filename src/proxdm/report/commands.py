"""The commands that would train a run and measure rows again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from proxdm.config import Config, ConfigError
from proxdm.evaluation.comparison import grid_kind
from proxdm.evaluation.results import EvaluationRow
from proxdm.experiments.commands import config_flags, flags, wrapped
from proxdm.presets import get_preset
from proxdm.samplers import find_sampler
from proxdm.schedules import VPSDE


def train_command(config: Config, out: Path) -> str | None:
    """Return the command that trains a run with this configuration; None if its preset is not one of the package."""
    try:
        preset = get_preset(config.preset)
    except ConfigError:
        return None
    return wrapped(["proxdm", "train", config.preset, *flags(out=out), *config_flags(preset, config)])


def evaluate_commands(rows: Iterable[EvaluationRow]) -> list[str]:
    """Return the commands that measure these rows again, one for every model, way and steps and seeds.

    How pictures of a reference were cut and resized is not in the rows; its digest says whether it is the same.
    """
    cells: dict[tuple[Any, ...], dict[int, dict[int, EvaluationRow]]] = {}
    for row in rows:
        how = (row.features.get("name"), row.reference.get("sha256"), _grid(row), row.chunk, row.bf16, row.compile)
        told = (row.guidance, tuple(row.classes or ()))
        key = (row.sampler, row.source, row.weights, row.samples, *how, *told)
        cells.setdefault(key, {}).setdefault(row.seed, {})[row.steps] = row
    # A command measures every combination, so it takes what has the same steps and seeds.
    commands: dict[tuple[Any, ...], list[EvaluationRow]] = {}
    for (_, *way), seeds in cells.items():
        for run in _runs({seed: frozenset(steps) for seed, steps in seeds.items()}):
            members = [row for seed in run for row in seeds[seed].values()]
            commands.setdefault((*way, frozenset(seeds[run[0]]), *run), []).extend(members)
    return [wrapped(["proxdm", "evaluate", *_evaluate(members)]) for members in commands.values()]


def _evaluate(rows: Sequence[EvaluationRow]) -> list[str]:
    first, seeds, split = rows[0], {row.seed for row in rows}, rows[0].reference.get("split")
    return [
        first.source,
        *flags(preset=first.preset if first.source.endswith(".pth") and first.preset else None, weights=first.weights),
        *flags(sampler=list(dict.fromkeys(row.sampler for row in rows)), steps=sorted({row.steps for row in rows})),
        *flags(samples=first.samples, features=first.features.get("name"), reference=first.reference.get("name")),
        *flags(split=None if split in ("", "train") else split),
        *flags(metrics=list(dict.fromkeys(name for row in rows for name in row.used))),
        *flags(seed=min(seeds), seeds=len(seeds) if len(seeds) > 1 else None, grid=_grid(first)),
        *flags(**{"class": list(first.classes or ()) or None}, guidance=first.guidance),
        *flags(chunk=first.chunk, bf16=first.bf16, compile=first.compile, force="forced" in first.reference),
    ]


def _grid(row: EvaluationRow) -> str | None:
    """Return the grid of a row without its steps, as options take it; None if it is the usual one of its sampler."""
    try:
        usual = find_sampler(row.sampler).grid(VPSDE(), row.steps).name
    except ValueError:  # a sampler of another version, or of a module that is not here
        usual = ""
    family, _, parameters = grid_kind(row.grid).partition(", ")
    return None if row.grid == usual else f"{family}({parameters})" if parameters else family


def _runs(seeds: Mapping[int, frozenset[int]]) -> list[list[int]]:
    """Return runs of seeds that follow each other and have the same steps."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and seed == runs[-1][-1] + 1 and seeds[seed] == seeds[runs[-1][-1]]:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return runs
