"""`proxdm reproduce`: the paper's experiments, a data set at a time."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from proxdm.cli import compare, download, evaluate, parse, sample, stats, toy, train
from proxdm.cli.tables import table
from proxdm.data.load import load_data
from proxdm.data.vae import DEFAULT_VAE
from proxdm.errors import DataError, OutputError
from proxdm.evaluation import Evaluation
from proxdm.experiments.commands import Step, Train
from proxdm.experiments.reproduce import Block, Reproduction, make_steps
from proxdm.experiments.standins import make_standins
from proxdm.runtime.files import check_folder, write_text

MARK = "reproduce.json"
"""File in the folder of a block that says which block it is, and whether a tiny one."""

RUN: dict[str, Callable[[Any, str], Evaluation | int]] = {
    "toy": toy.run,
    "download": download.run,
    "stats": stats.run,
    "train": train.run,
    "evaluate": evaluate.measure_model,
    "sample": sample.run,
    "compare": compare.run,
}
"""What carries out a step, by its verb."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the verb and return the exit status: 0, or 130 and 143 after SIGINT and SIGTERM."""
    plan = parse(Reproduction, arguments, prog)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "proxdm reproduce runs in one process; run the commands that --dry-run shows under accelerate launch or "
            "torchrun, then this one, which finds them finished"
        )
    block, steps = plan.chosen(), make_steps(plan)
    mark, file = json.dumps({"block": block.name, "smoke": plan.smoke}), plan.folder / MARK
    if file.exists() and (found := file.read_text(encoding="utf-8").strip()) != mark:
        raise OutputError(f"{plan.folder} holds {found}, not {mark}; choose another folder with --out")
    if plan.dry_run:
        print(overview(plan, block, steps))
        return 0
    check_folder(plan.folder, [], overwrite=False)
    if not file.exists():
        write_text(file, f"{mark}\n")
    if plan.standins is not None and block.dataset is not None:
        print(f"Stand-ins for {block.dataset}, in {plan.standins}: the numbers below mean nothing.", flush=True)
        make_standins(block.dataset, plan.standins)
    return run(block, steps, shlex.join(["proxdm", "reproduce", *arguments]))


def run(block: Block, steps: Sequence[Step], again: str) -> int:
    """Carry out what is left of the steps, print the table at the end, and return the exit status."""
    measured: dict[str, Evaluation] = {}
    for number, step in enumerate(steps, 1):
        left = step.left()
        print(f"\n[{number}/{len(steps)}] {(left or step).command}", flush=True)
        if left is None:
            print(f"done already: {step.out}")
            continue
        try:
            found = perform(left)
        except KeyboardInterrupt:
            print(f"Go on with: {again}", file=sys.stderr)
            raise
        if isinstance(found, Evaluation):
            measured[step.out.name] = found
        elif found:
            print(f"Or all of it: {again}", file=sys.stderr)
            return found
    print("\n" + summary(block, steps, measured))
    return 0


def perform(step: Step) -> Evaluation | int:
    """Carry out a step, and return what it has measured, or an exit status."""
    return RUN[step.verb](options_of(step), f"proxdm {step.verb}")


def options_of(step: Step) -> Any:
    """Return the options of the verb of a step, as its parser would make them of the command that is shown."""
    if isinstance(step, Train):
        return train.Train(config=step.config, out=step.out, resume=step.resume)
    given = {name: value for name, value in {"out": step.out, **step.options}.items() if value is not None}
    first, *others = map(str, step.names or [""])
    match step.verb:
        case "download":
            return download.Download(cast("download.What", first), tuple(others), **given)
        case "stats":
            return stats.Stats(stats.Pictures(first, root=given.pop("root", None)), **given)
        case "evaluate":
            return evaluate.Evaluate(source=first, samplers=(given.pop("sampler"),), **given)
        case "sample":
            return sample.Sample(source=first, **given)
        case "compare":
            return compare.Compare(sources=(first,), **given)
        case _:
            return toy.Toy(**given)


def summary(block: Block, steps: Sequence[Step], measured: Mapping[str, Evaluation]) -> str:
    """Return what a block has come to: a table of distances beside the paper's, or where the results are."""
    if not measured:
        return "\n".join([f"{block.title}: in", *(f"  {step.out}" for step in steps if step.verb in ("sample", "toy"))])
    rows = [(one, row) for one in block.sweeps for row in measured[one.name].rows]
    features = sorted({row.features["name"] for _, row in rows})
    real = features == ["inception"]  # the paper's values say nothing about other features
    lines = []
    for one, row in rows:
        expected = f"{one.paper[row.steps]:g}" if real and row.steps in one.paper else "–"
        lines.append([one.name, row.sampler, str(row.nfe), f"{row.metrics['fid']:.4g}", expected])
    samples = ", ".join(f"{count:,}" for count in sorted({row.samples for _, row in rows}))
    note = "the paper's values are read off its figure" if real else f"{', '.join(features)} features: this is no FID"
    body = table(["experiment", "sampler", "NFE", "FID" if real else "Fréchet distance", "paper"], lines)
    return f"{block.title}\n\n{body}\n\n{samples} samples a row; {note}."


def overview(plan: Reproduction, block: Block, steps: Sequence[Step]) -> str:
    """Return the commands of a block, what they need and how much they are."""
    lines = [f"{block.name}: {block.title}", "", *(f"needs {need}" for need in needs(plan, block, steps)), ""]
    for number, step in enumerate(steps, 1):
        left = step.left()
        resumed = isinstance(left, Train) and left.resume
        state = "; done already" if left is None else "; interrupted" if resumed else ""
        lines += [f"[{number}/{len(steps)}] {(left or step).command}", f"      {step.about}{state}"]
    total = [f"{len(steps)} {'command' if len(steps) == 1 else 'commands'}"]
    if trainings := [step.config.training for step in steps if isinstance(step, Train)]:
        images = sum(training.steps * training.batch_size for training in trainings)
        count = sum(training.steps for training in trainings)
        total.append(f"{len(trainings)} trainings of {count:,} steps on {images:,} images together")
    if block.presets:
        evaluations = sum(plan.samples_of(one) * sum(one.steps) for one in block.experiments)
        total.append(f"{evaluations:,} network evaluations of a sample")
    lines += ["", "; ".join(total)]
    if trainings and not plan.smoke:
        lines.append("Memory and time of a training on this machine: proxdm train PRESET --dry-run")
    return "\n".join(lines)


def needs(plan: Reproduction, block: Block, steps: Sequence[Step]) -> list[str]:
    """Return what has to be there that no step fetches, in words, and whether it is."""
    if plan.smoke or block.dataset is None:
        return [f"nothing: {'small stand-ins are made' if block.dataset else 'the points are shipped'}"]
    found = []
    if any(step.verb in ("train", "stats") for step in steps):
        try:
            data = load_data(block.dataset)
            state = f"{len(data):,} images of {'x'.join(map(str, data.shape))}"
        except DataError as error:
            state = f"missing: {error}"
        found.append(f"the data set {block.dataset}: {state}")
    if any(step.verb == "sample" for step in steps):
        found.append(f"the autoencoder {DEFAULT_VAE}: downloaded once; the package diffusers")
    return found or ["nothing: everything is downloaded"]
