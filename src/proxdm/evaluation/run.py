"""The sweep: every row of a plan, in one or several processes, each written as soon as it is done."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from tqdm import tqdm

from proxdm._version import __version__
from proxdm.checkpoints.load import Opened, open_source
from proxdm.evaluation.collected import Collected, Savings, Total, Wanted, share
from proxdm.evaluation.measures import MEASURES, Material, kept
from proxdm.evaluation.painter import Painter
from proxdm.evaluation.plan import Cell, EvaluationPlan, Skipped, default_chunk, make_cells, unseen
from proxdm.evaluation.reference import Reference, open_reference
from proxdm.evaluation.results import RESULTS, EvaluationRow, ResultsFile, identity
from proxdm.generation import make_decoder
from proxdm.imaging import save_grid
from proxdm.metrics.features import FeatureExtractor, load_extractor
from proxdm.metrics.statistics import ReferenceStatistics
from proxdm.runtime.device import choose_device
from proxdm.runtime.digests import digest_of
from proxdm.runtime.files import check_folder, replacing
from proxdm.runtime.locks import lock
from proxdm.runtime.processes import Place, find_place
from proxdm.runtime.words import duration

PARTIAL = ".unfinished"
"""Folder of rows that are being measured, beside the results."""

PICTURED = 64
"""Samples in the picture of a row."""

Say = Callable[[str], None]
"""Takes one line for people."""


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` has measured or found.

    Attributes:
        rows: In the order of the plan; on processes other than the first, none.
        skipped: Rows that are not defined.
        reused: How many of the rows had been measured before.
    """

    rows: tuple[EvaluationRow, ...]
    skipped: tuple[Skipped, ...]
    reused: int


@dataclass(frozen=True, eq=False)
class _Setting:
    """What all rows have in common."""

    plan: EvaluationPlan
    name: str
    opened: Opened
    digest: str
    painter: Painter
    extractor: FeatureExtractor
    reference: Reference
    place: Place
    out: Path | None
    progress: bool

    @property
    def measures_features(self) -> bool:
        return any(MEASURES[name].keeps != "pixels" for name in self.plan.metrics)

    @property
    def chunks(self) -> int:
        return math.ceil(self.plan.samples / self.painter.chunk)

    @property
    def values(self) -> list[str]:
        """Names of the values of all metrics."""
        return [value for name in self.plan.metrics for value in MEASURES[name].values]

    def wanted(self) -> Wanted:
        plan = self.plan
        moments = any(MEASURES[name].keeps == "moments" for name in plan.metrics)
        pixels = max(min(PICTURED, plan.samples), kept(plan.metrics, "pixels", plan.samples))
        features = kept(plan.metrics, "features", plan.samples)
        return Wanted(self.painter.chunk, self.extractor.dim if moments else 0, features, pixels)

    def record(self, cell: Cell) -> dict[str, Any]:
        """Return what is known of a row before it is measured."""
        extractor = self.extractor
        return {
            "source": self.name,
            "preset": getattr(self.opened.model.config, "preset", None),
            "weights": self.opened.weights,
            "digest": self.digest,
            "sampler": cell.rule.name,
            "grid": cell.grid.name,
            "steps": cell.grid.steps,
            "samples": self.plan.samples,
            "seed": cell.seed,
            "chunk": self.painter.chunk,
            "bf16": self.plan.bf16,
            "compile": self.plan.compile,
            "features": {
                "name": extractor.name,
                "dim": extractor.dim,
                "weights": extractor.weights,
                "resize": extractor.resize,
            },
            "reference": self.reference.stamp(),
        }


def evaluate(
    source: str | Path | Opened,
    plan: EvaluationPlan,
    *,
    out: Path | None = None,
    weights: str | None = None,
    preset: str | None = None,
    device: str | torch.device = "auto",
    overwrite: bool = False,
    progress: bool = False,
    say: Say | None = None,
) -> Evaluation:
    """Measure every row of a plan.

    Memory does not depend on the number of samples, but for what :mod:`proxdm.evaluation.measures` says is kept. Under
    `torchrun` or `accelerate launch` samples are shared by the processes; they are the same, and so are the values up
    to the rounding of float64 sums.

    Args:
        source: Whatever :func:`proxdm.checkpoints.load.open_source` takes, or a model that is open already; with
            `plan.compile` its network stays compiled.
        plan: What to measure.
        out: Folder of the results: each finished row is appended to `results.jsonl` there, with a picture beside it,
            and an interrupted row goes on where it was, at the loss of one batch at most. Rows that are there already
            are not measured again. None writes nothing.
        weights: Weight set; None is the usual one.
        preset: Of the paper's `.pth` files.
        device: Where to compute; `auto` is a GPU where there is one.
        overwrite: Measure rows again that are there already; each is replaced when the new one is done.
        progress: Show progress bars where there is a terminal, and say how long it will take.
        say: Takes warnings, estimates and what is skipped, line by line; by default warnings are issued as such.

    Raises:
        CheckpointError: There is no such model.
        OperatorError: A sampler does not take it.
        StatisticsError: The reference is missing, or was made by another route than the features.
        DataError: The reference data cannot be read.
        FeatureError: The features cannot be had.
        NonFiniteError: Samples are not finite; the row is not written.
        OutputError: `out` cannot be written, or its results are damaged.
        ValueError: The samples are no pictures, or a setting would be ignored.
    """
    place = _place(device)
    if not place.is_main:
        say, progress = _silent, False
    tell = say or _warn
    opened = source if isinstance(source, Opened) else open_source(source, weights, preset, device=place.device)
    if out is not None:
        _check_out(out)
    name = type(opened.model).__name__ if isinstance(source, Opened) else str(source)
    cells, skipped = make_cells(plan, opened.model)
    for one in skipped:
        tell(f"skipped {one.sampler} at N = {one.steps}: {one.reason}")
    with _told(tell):
        setting = _open(plan, name, opened, place, out, progress)
    results = None if out is None else ResultsFile(out / RESULTS)
    rows: dict[Cell, EvaluationRow] = {}
    if results is not None and not overwrite:
        for cell in cells:
            record = results.find(identity(setting.record(cell)), setting.values)
            if record is not None:
                rows[cell] = EvaluationRow.of_record(record)
    missing = [cell for cell in cells if cell not in rows]
    if plan.compile and missing:
        tell("compiling the network")
        setting.painter.compile()
    _forewarn(setting, missing, len(rows), tell)
    place.wait()  # nobody writes before everybody has read
    for cell in missing:
        row = _measure(setting, cell, results, overwrite=overwrite)
        if row is not None:
            rows[cell] = row
    reused = len(cells) - len(missing)
    return Evaluation(tuple(rows[cell] for cell in cells if place.is_main), tuple(skipped), reused)


def _open(plan: EvaluationPlan, name: str, opened: Opened, place: Place, out: Path | None, progress: bool) -> _Setting:
    """Open features and reference; everything that can be wrong is wrong here."""
    model = opened.model
    shape, decode = make_decoder(model, plan.vae)
    extractor = load_extractor(plan.features, shape, inception_weights=plan.inception_weights, device=place.device)
    reference = open_reference(
        plan.reference, model, extractor, plan.metrics, cache=out, force=plan.force, progress=progress
    )
    painter = Painter(model, shape, decode, plan.chunk or default_chunk(place.device, shape), plan.bf16)
    digest = digest_of({key: value.detach().cpu() for key, value in model.network.state_dict().items()})
    return _Setting(plan, name, opened, digest, painter, extractor, reference, place, out, progress)


def _forewarn(setting: _Setting, cells: Sequence[Cell], found: int, tell: Say) -> None:
    """Say what is there already, what will be poor, and how long it will take."""
    if found:
        tell(f"{found} of {found + len(cells)} rows are there already")
    if not cells:
        return
    for line in unseen(setting.opened.model, cells):
        tell(f"warning: {line}; expect poor samples")
    plan, dim = setting.plan, setting.extractor.dim
    if "fid" in plan.metrics and plan.samples <= dim:
        tell(
            f"warning: {plan.samples} samples leave the covariance of {dim} features singular; distances of so "
            "few are far too large"
        )
    if setting.progress:
        tell(estimate(setting, cells))


def estimate(setting: _Setting, cells: Sequence[Cell]) -> str:
    """Return in one line how long the rows will take, from one evaluation and one pass of the features."""
    step = setting.painter.time_evaluation()
    features = 0.0
    if setting.measures_features:
        # Features may cost far more than the network: a part of a chunk says enough, after one image to warm up.
        part = math.ceil(setting.painter.chunk / 8)
        for count in (1, part):
            started = perf_counter()
            setting.extractor(torch.zeros(count, *setting.painter.shape, dtype=torch.uint8)).cpu()
            features = (perf_counter() - started) * setting.painter.chunk / count
    chunks = math.ceil(setting.chunks / setting.place.world)
    seconds = chunks * sum(cell.grid.steps * step + features for cell in cells)
    return (
        f"about {duration(seconds)} for {len(cells)} rows of {setting.plan.samples:,} samples, "
        f"{setting.painter.chunk} at a time ({1000 * step:.3g} ms an evaluation, {1000 * features:.3g} ms features)"
    )


def _measure(setting: _Setting, cell: Cell, results: ResultsFile | None, *, overwrite: bool) -> EvaluationRow | None:
    """Return one row, written to the results; None on processes other than the first."""
    place, record = setting.place, setting.record(cell)
    wanted = setting.wanted()
    mark = hashlib.sha256(f"{identity(record)} {wanted} {place.device.type}".encode()).hexdigest()[:16]
    with ExitStack() as stack:
        savings = None
        if setting.out is not None:
            folder = setting.out / PARTIAL / mark
            if place.is_main:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(lock(folder / "lock", wait=False))
            savings = Savings(folder, wanted)
        total = _collect(setting, cell, wanted, savings)
        if not place.is_main:
            return None
        row = _finish(setting, record, total, mark)
        if results is not None:
            (results.replace if overwrite else results.append)(row.record())
        if savings is not None:
            savings.remove()
    return row


def _collect(setting: _Setting, cell: Cell, wanted: Wanted, savings: Savings | None) -> Total:
    """Draw all samples that are not saved already, and return what is kept of them."""
    place, plan, size = setting.place, setting.plan, setting.painter.chunk
    sums = torch.device("cpu") if place.device.type == "mps" else place.device
    fresh = savings is None or not place.is_main
    collected = Collected(wanted, sums) if fresh or savings is None else savings.load(sums)
    done = torch.zeros(setting.chunks, device=place.device)
    done[collected.chunks] = 1
    todo = share(torch.nonzero(place.sum(done) == 0).flatten().tolist(), place.rank, place.world)
    title = f"{cell.rule.name} N={cell.grid.steps} seed {cell.seed}"
    hidden = None if setting.progress else True
    whole = plan.samples * cell.grid.steps
    with tqdm(total=whole, desc=title, unit="NFE", unit_scale=True, disable=hidden) as bar:
        bar.update(min(plan.samples, len(collected.chunks) * size) * cell.grid.steps)
        for batch in _batches(todo, math.ceil(plan.batch_size / size)):
            started = perf_counter()
            for chunk in batch:
                count = min(size, plan.samples - chunk * size)
                pixels, nfe = setting.painter.draw(cell, chunk)
                features = setting.extractor(pixels[:count]) if setting.measures_features else None
                collected.add(chunk, pixels[:count], features, nfe)
                bar.update(min(count * nfe * place.world, whole - int(bar.n)))
            collected.seconds += perf_counter() - started
            if savings is not None:
                savings.save(collected, place.rank)
    return collected.total(place)


def _finish(setting: _Setting, record: dict[str, Any], total: Total, mark: str) -> EvaluationRow:
    """Return the row with its metrics, its picture written."""
    plan, started = setting.plan, perf_counter()
    moments = None
    if total.moments is not None:
        moments = ReferenceStatistics.of(total.moments, setting.extractor, dataset="samples")
    material = Material(moments, total.features, total.pixels, setting.reference)
    values: dict[str, float] = {}
    used: dict[str, list[int | None]] = {}
    for name in plan.metrics:
        measure = MEASURES[name]
        values |= material.measure(measure)
        used[name] = measure.used(plan.samples, setting.reference.count)
    known = {
        **record,
        "nfe": total.nfe,
        "metrics": values,
        "used": used,
        "seconds": total.seconds,
        "metric_seconds": perf_counter() - started,
        "images_per_second": plan.samples / total.seconds,
        "nfe_per_second": plan.samples * total.nfe / total.seconds,
        "versions": {"proxdm": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
        "device": _device_name(setting.place.device),
        "processes": setting.place.world,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if setting.out is not None:
        name = f"{record['sampler']}-{record['steps']}-seed{record['seed']}-{mark[:8]}.png"
        with replacing(setting.out / name) as part:
            save_grid(total.pixels[:PICTURED], part, metadata={**record, "metrics": values})
        known["picture"] = name
    return EvaluationRow(**known)


def _place(device: str | torch.device) -> Place:
    """Return where this process computes, joining the others if a launcher has started several."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Place(choose_device(device))
    return find_place("cpu" if str(device) == "cpu" else "auto")


def _check_out(out: Path) -> None:
    """Make the folder, and check that it can be written and that its results can be read.

    Raises:
        OutputError: It cannot, or they cannot.
    """
    check_folder(out, [], overwrite=False)
    ResultsFile(out / RESULTS).records()


def _batches(items: Sequence[int], size: int) -> Iterator[list[int]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


@contextmanager
def _told(tell: Say) -> Iterator[None]:
    """Pass warnings on, one line each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        tell(f"warning: {' '.join(str(warning.message).split())}")


def _warn(line: str) -> None:
    warnings.warn(line, stacklevel=3)


def _silent(line: str) -> None:
    pass


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device} ({platform.machine()})"
