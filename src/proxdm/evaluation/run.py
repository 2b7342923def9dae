"""Every row of a plan, in one or several processes, each written as soon as it is done."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from proxdm._version import __version__
from proxdm.checkpoints.load import Opened, open_source
from proxdm.checkpoints.portable import model_config
from proxdm.errors import NonFiniteError, ProxdmError
from proxdm.evaluation.accumulate import Accumulator, Limits
from proxdm.evaluation.plan import EvaluationPlan, default_chunk, unusual
from proxdm.evaluation.reference import Reference, open_reference
from proxdm.evaluation.results import RESULTS, EvaluationRow, find_row, identity
from proxdm.generation import Decoder, Say, arithmetic, draw, make_decoder, said_of, warn
from proxdm.imaging import can_draw, save_grid
from proxdm.metrics.features import FeatureExtractor, Shape, load_extractor
from proxdm.metrics.registry import METRICS
from proxdm.models import LearnedModel, ProxModel
from proxdm.operators import label_indices
from proxdm.pixels import as_kept
from proxdm.runtime.files import JsonLines, check_folder, digest_of, lock, replacing
from proxdm.runtime.processes import Place, choose_device, find_place
from proxdm.runtime.words import duration
from proxdm.sweep import Cell, Skipped, sweep

PARTIAL = ".unfinished"
"""Folder of rows that are being measured, beside the results."""

PICTURED = 64
"""Samples in the picture of a row."""


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` has measured or found."""

    rows: tuple[EvaluationRow, ...]  # In the order of the plan; on processes other than the first, none
    skipped: tuple[Skipped, ...]  # Rows that are not defined
    reused: int  # How many of the rows had been measured before


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
    say: Say = warn,
) -> Evaluation:
    """Measure every row of a plan.

    Memory does not depend on the number of samples, but for the features and pixels of those that metrics take. Under
    `torchrun` or `accelerate launch` samples are shared by the processes; they are the same, and so are the values up
    to the rounding of float64 sums.
    """
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1  # no launcher has started several processes
    place = Place(choose_device(device)) if alone else find_place("cpu" if str(device) == "cpu" else "auto")
    if not place.is_main:
        say, progress = (lambda line: None), False
    opened = source if isinstance(source, Opened) else open_source(source, weights, preset, device=place.device)
    results = None if out is None else JsonLines(out / RESULTS)
    if out is not None:
        check_folder(out, [], overwrite=False)
    known = [] if results is None else results.records()
    cells, skipped = plan.cells(opened.model)
    for line in opened.remarks:
        say(line)
    for one in skipped:
        say(f"skipped {one.sampler} at N = {one.steps}: {one.reason}")
    name = type(opened.model).__name__ if isinstance(source, Opened) else str(source)
    with warnings.catch_warnings(record=True, action="always") as caught:
        job = open_job(plan, name, opened, place, out, progress)
    for warning in caught:
        say(f"warning: {' '.join(str(warning.message).split())}")
    rows = {} if overwrite else {cell: find_row(known, job.record(cell), plan.metrics) for cell in cells}
    missing = [cell for cell in cells if rows.get(cell) is None]
    if (reused := len(cells) - len(missing)) > 0:
        say(f"{reused} of {len(cells)} rows are there already")
    if missing:
        if plan.compile:
            say("compiling the network")
            job.sampler.compile()
        for line in job.forewarnings(missing):
            say(line)
    place.wait()  # nobody writes before everybody has read
    found = sweep(cells, lambda cell: job.measure(cell, results, overwrite=overwrite), known=rows.get)
    return Evaluation(tuple(found) if place.is_main else (), tuple(skipped), reused)


@dataclass(frozen=True, eq=False)
class ChunkSampler:
    """Draws the samples of a model by chunks: always the same ones in one call of the network.

    The rounding of a network depends on the shape of what it is given, and with some kernels on the place of a sample
    in it. Sample i is therefore always computed in chunk `i // size`, and the last chunk is computed in full: pictures
    are the same to the last bit at every batch size and number of processes.
    """

    model: LearnedModel  # The model
    shape: Shape  # Of a sample: (C, H, W) of pictures
    decode: Decoder  # From samples of the model to pictures in [-1, 1]
    size: int  # Samples in a chunk, one call of the network
    bf16: bool = False  # Whether the network runs in bfloat16

    def draw(self, cell: Cell, number: int) -> tuple[Tensor, int]:
        """Return the samples of chunk `number`, pictures as uint8 `(size, C, H, W)`, and the evaluations of each."""
        indices = range(number * self.size, (number + 1) * self.size)
        with arithmetic(self.model.device, bf16=self.bf16):
            try:
                state = draw(self.model, cell.method, cell.grid, cell.seed, indices)
                return as_kept(self.decode(state.x)), state.nfe
            except NonFiniteError as error:
                raise NonFiniteError(f"samples {indices[0]} to {indices[-1]} on {cell.grid.name}: {error}") from error
            except torch.cuda.OutOfMemoryError as error:
                raise ProxdmError(
                    f"{self.size} samples at a time do not fit the memory of {self.model.device}; take a smaller chunk"
                ) from error

    def compile(self) -> None:
        """Compile the network of the model, in place, for chunks of this size; takes a minute or two on a CPU."""
        self.model.network.compile(dynamic=False)
        self.time_evaluation()  # compiles, which must not count as time of the first row

    def time_evaluation(self) -> float:
        """Return the seconds of one network evaluation of a chunk, after one to warm up."""
        x = torch.zeros(self.size, *model_config(self.model.config).shape, device=self.model.device)
        t = torch.full((self.size,), 0.5, device=x.device)
        seconds = 0.0
        for _ in range(2):
            _wait(x.device)
            started = perf_counter()
            with arithmetic(x.device, bf16=self.bf16):
                _ = self.model.prox(x, t, t) if isinstance(self.model, ProxModel) else self.model.score(x, t)
            _wait(x.device)
            seconds = perf_counter() - started
        return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True, eq=False)
class _Job:
    """What all rows have in common."""

    plan: EvaluationPlan
    name: str
    opened: Opened
    digest: str
    sampler: ChunkSampler
    limits: Limits
    extractor: FeatureExtractor
    reference: Reference
    place: Place
    out: Path | None
    progress: bool

    def record(self, cell: Cell) -> dict[str, Any]:
        """Return what is known of a row before it is measured."""
        features = {name: getattr(self.extractor, name) for name in ("name", "dim", "weights", "resize")}
        return {
            "source": self.name,
            "preset": getattr(self.opened.model.config, "preset", None),
            "weights": self.opened.weights,
            "digest": self.digest,
            "sampler": cell.method.name,
            "grid": cell.grid.name,
            "steps": cell.steps,
            "samples": self.plan.samples,
            "seed": cell.seed,
            "chunk": self.sampler.size,
            "bf16": self.plan.bf16,
            "compile": self.plan.compile,
            "features": features,
            "reference": self.reference.stamp(),
            **said_of(self.opened.model, cell.method),
        }

    def forewarnings(self, cells: Sequence[Cell]) -> Iterator[str]:
        """Yield what will be poor, and how long it will take."""
        yield from unusual(self.opened.model, cells)
        if "fid" in self.plan.metrics and self.plan.samples <= (dim := self.extractor.dim):
            yield (
                f"warning: {self.plan.samples} samples leave the covariance of {dim} features singular; distances of "
                "so few are far too large"
            )
        if self.progress:
            yield self.estimate(cells)

    def estimate(self, cells: Sequence[Cell]) -> str:
        """Return in one line how long the rows will take, from one evaluation and one pass of the features."""
        size, step, features = self.sampler.size, self.sampler.time_evaluation(), 0.0
        if self.limits.takes_features:
            # Features may cost far more than the network: a part of a chunk says enough, after one image to warm up.
            for count in (1, math.ceil(size / 8)):
                started = perf_counter()
                self.extractor(torch.zeros(count, *self.sampler.shape, dtype=torch.uint8)).cpu()
                features = (perf_counter() - started) * size / count
        chunks = math.ceil(math.ceil(self.plan.samples / size) / self.place.world)
        seconds = chunks * sum(cell.method.evaluations(cell.grid) * step + features for cell in cells)
        return (
            f"about {duration(seconds)} for {len(cells)} rows of {self.plan.samples:,} samples, {size} at a time "
            f"({1000 * step:.3g} ms an evaluation, {1000 * features:.3g} ms features)"
        )

    def measure(self, cell: Cell, results: JsonLines | None, *, overwrite: bool) -> EvaluationRow | None:
        """Return one row, written to the results; None on processes other than the first."""
        record = self.record(cell)
        wanted = identity(record)
        mark = hashlib.sha256(f"{wanted} {self.limits} {self.place.device.type}".encode()).hexdigest()[:16]
        folder = None if self.out is None else self.out / PARTIAL / mark
        with ExitStack() as stack:
            if folder is not None and self.place.is_main:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(lock(folder / "lock", wait=False))
            total = self.draw(cell, folder)
            if not self.place.is_main:
                return None
            row = self.finish(record, total, mark, cell)
            if results is not None and overwrite:
                results.replace(row.record(), lambda other: identity(other) == wanted)
            elif results is not None:
                results.append(row.record())
            if folder is not None:
                rmtree(folder, ignore_errors=True)
                with suppress(OSError):  # rows of other runs are in it
                    folder.parent.rmdir()
        return row

    def draw(self, cell: Cell, folder: Path | None) -> Accumulator:
        """Return what is kept of all samples; those that are not in the folder already are drawn."""
        place, samples, size = self.place, self.plan.samples, self.sampler.size
        sums = "cpu" if place.device.type == "mps" else place.device  # MPS has no float64
        found = Accumulator(self.limits, sums)
        if folder is not None and place.is_main:
            found = Accumulator.load(folder, self.limits, sums)
        done = torch.zeros(math.ceil(samples / size), device=place.device)
        done[found.chunks] = 1
        todo = torch.nonzero(place.sum(done) == 0).flatten().tolist()[place.rank :: place.world]
        nfe = cell.method.evaluations(cell.grid)
        hidden = None if self.progress else True
        with tqdm(total=samples * nfe, desc=str(cell), unit="NFE", unit_scale=True, disable=hidden) as bar:
            bar.update(min(samples, len(found.chunks) * size) * nfe)
            batch = math.ceil(self.plan.batch_size / size)
            for first in range(0, len(todo), batch):
                started = perf_counter()
                for chunk in todo[first : first + batch]:
                    count = min(size, samples - chunk * size)
                    pixels, evaluations = self.sampler.draw(cell, chunk)
                    features = self.extractor(pixels[:count]) if self.limits.takes_features else None
                    found.add(chunk, pixels[:count], features, evaluations)
                    bar.update(min(count * nfe * place.world, samples * nfe - int(bar.n)))
                found.seconds += perf_counter() - started
                if folder is not None:
                    found.save(folder)
        return found.gather(place)

    def finish(self, record: dict[str, Any], total: Accumulator, mark: str, cell: Cell) -> EvaluationRow:
        """Return the row with its metrics, its picture written."""
        plan, started, model = self.plan, perf_counter(), self.opened.model
        labels = label_indices(model.classes, cell.method.classes, range(plan.samples))
        values: dict[str, float] = {}
        for metric in map(METRICS.find, plan.metrics):
            values |= metric.measure(total.taken(metric, labels), self.reference.taken(metric))
        picture = None
        if self.out is not None and can_draw(self.sampler.shape):
            name = re.sub(r"[^\w.+-]+", "-", record["sampler"]).strip("-")
            picture = f"{name}-{record['steps']}-seed{record['seed']}-{mark[:8]}.png"
            with replacing(self.out / picture) as part:
                save_grid(total.kept("pixels")[:PICTURED], part, metadata={**record, "metrics": values})
        device = self.place.device
        return EvaluationRow(
            **record,
            nfe=total.nfe,
            metrics=values,
            used={name: METRICS[name].used(plan.samples, self.reference.count) for name in plan.metrics},
            seconds=total.seconds,
            metric_seconds=perf_counter() - started,
            images_per_second=plan.samples / total.seconds,
            nfe_per_second=plan.samples * total.nfe / total.seconds,
            versions={"proxdm": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device} ({platform.machine()})",
            processes=self.place.world,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            picture=picture,
        )


def open_job(plan: EvaluationPlan, name: str, opened: Opened, place: Place, out: Path | None, progress: bool) -> _Job:
    """Open features and reference; everything that can be wrong is wrong here."""
    model = opened.model
    shape, decode = make_decoder(model, plan.vae)
    extractor = load_extractor(
        plan.features, shape, inception_weights=plan.inception_weights, device=place.device, metrics=plan.metrics
    )
    reference = open_reference(plan, model, extractor, cache=out, progress=progress)
    sampler = ChunkSampler(model, shape, decode, plan.chunk or default_chunk(place.device, shape), plan.bf16)
    limits = Limits.of(plan.metrics, plan.samples, sampler.size, extractor.dim)
    limits = replace(limits, pixels=max(min(PICTURED, plan.samples), limits.pixels))
    digest = digest_of({key: value.detach().cpu() for key, value in model.network.state_dict().items()})
    return _Job(plan, name, opened, digest, sampler, limits, extractor, reference, place, out, progress)
