"""`proxdm reproduce`: the paper's experiments, a data set at a time, by the commands that one could type oneself."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from proxdm import cli
from proxdm.cli import compare as compare_verb
from proxdm.cli import evaluate as evaluate_verb
from proxdm.cli import toy as toy_verb
from proxdm.cli import train as train_verb
from proxdm.cli.measuring import make_plan
from proxdm.cli.reproduce_jobs import Job, Setting, Stats, Weights, make_jobs, samples_of, smoked
from proxdm.cli.tables import table
from proxdm.errors import OutputError
from proxdm.evaluation import Evaluation, EvaluationPlan, evaluate
from proxdm.evaluation.results import RESULTS
from proxdm.experiments.reproduce import BLOCKS, Block, BlockName, Sweep
from proxdm.runtime.files import check_folder, replacing

MARK = "reproduce.json"
"""File in the folder of a block that says which block it is, and whether a tiny one."""


@dataclass(frozen=True)
class Reproduce:
    """Run every experiment of arXiv 2507.08956 on one data set: train its models, measure or draw, show a table.

    Every step is a command of this program, printed before it is run. What is finished is skipped and what was
    interrupted goes on: to go on, give the same command again. Several GPUs: run the printed training commands under
    accelerate launch, the evaluations under torchrun; this command then finds them finished.
    """

    block: Positional[BlockName]
    """toy (the synthetic experiment), mnist, cifar10 or celebahq."""

    only: tuple[str, ...] = ()
    """Experiments or presets, e.g. cifar10-score-ode or cifar10-score; --dry-run shows their names."""

    steps: tuple[int, ...] = ()
    """Of the paper's numbers of steps, measure these only."""

    weights: Weights = "trained"
    """official takes the weights that the paper's authors published, and trains nothing."""

    stats: Stats | None = None
    """Reference of the FID: own takes it of the data set, official is the authors' file (the default with official
    weights)."""

    samples: int | None = None
    """Samples of a FID, 50,000 by default, as in the paper; fewer give larger values."""

    smoke: bool = False
    """Run the same commands on small stand-ins for all data, with narrow networks and two training steps: seconds, no
    download. The numbers mean nothing."""

    dry_run: bool = False
    """Show the commands, what they need and how much they are; run nothing."""

    device: Literal["auto", "cpu"] = "auto"
    """auto (a GPU where there is one) or cpu."""

    bf16: bool = False
    """Run the networks in bfloat16: faster on GPUs; the paper does not."""

    compile: bool = False
    """Compile the networks in training."""

    micro_batch: int | None = None
    """Most samples in a forward pass of training: less memory, the same result."""

    inception_weights: Path | None = None
    """File of the Inception weights, pt_inception-2015-12-05-6726825d.pth; by default it is downloaded once."""

    out: Annotated[Path | None, arg(aliases=("-o",), help_behavior_hint="(default: reproduce/BLOCK)")] = None
    """Folder of runs, statistics, evaluations and pictures; with --smoke, reproduce/BLOCK-smoke by default."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the verb and return the exit status: 0, or 130 and 143 after SIGINT and SIGTERM.

    Args:
        arguments: What stands after the verb.
        prog: Name for help and messages.
    """
    options = cli.parse(Reproduce, arguments, prog)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "proxdm reproduce runs in one process; run the commands that --dry-run shows under accelerate launch or "
            "torchrun, then this one, which finds them finished"
        )
    block, setting = choose(options)
    jobs = make_jobs(block, setting)
    for job in jobs:
        check(job)
    check_mark(setting.out, block, smoke=setting.smoke)
    if options.dry_run:
        print(overview(block, setting, jobs))
        return 0
    check_folder(setting.out, [], overwrite=False)
    write_mark(setting.out, block, smoke=setting.smoke)
    if setting.smoke and block.dataset is not None:
        from proxdm.experiments.standins import make_standins

        print(f"Stand-ins for {block.dataset}, in {setting.standins}: the numbers below mean nothing.", flush=True)
        make_standins(block.dataset, setting.standins)
    return run(block, jobs, shlex.join(["proxdm", "reproduce", *arguments]))


def choose(options: Reproduce) -> tuple[Block, Setting]:
    """Return the part of a block that is asked for, and how to run it.

    Raises:
        ValueError: A name, number or file is wrong, or a setting would be ignored.
    """
    block = BLOCKS[options.block].only(options.only, options.steps)
    sweeps = any(isinstance(one, Sweep) for one in block.experiments)
    measured = {"stats": options.stats, "samples": options.samples, "inception-weights": options.inception_weights}
    trained = {"compile": options.compile, "micro-batch": options.micro_batch}
    networks = {"weights": options.weights != "trained", "bf16": options.bf16, "device": options.device != "auto"}
    if not block.presets:
        _refuse({**networks, **trained}, f"{block.name} needs no network")
    if not sweeps:
        _refuse(measured, f"{block.name} has no Fréchet distance")
    if options.weights == "official":
        _refuse(trained, "official weights are not trained")
    if options.smoke:
        _refuse(measured, "--smoke has its own numbers, features and statistics")
        _refuse({"steps": options.steps, "micro-batch": options.micro_batch}, "--smoke has its own numbers")
        block = smoked(block)
    if options.micro_batch is not None and options.micro_batch < 1:
        raise ValueError(f"micro-batch = {options.micro_batch} must be at least 1")
    if options.inception_weights is not None and not options.inception_weights.is_file():
        raise ValueError(f"there is no file {options.inception_weights}; leave --inception-weights out to download it")
    theirs = sweeps and options.weights == "official" and not options.smoke
    return block, Setting(
        out=options.out or Path("reproduce", block.name + ("-smoke" if options.smoke else "")),
        weights=options.weights,
        stats=options.stats or ("official" if theirs else "own"),
        smoke=options.smoke,
        samples=options.samples,
        device=options.device,
        bf16=options.bf16,
        compile=options.compile,
        micro_batch=options.micro_batch,
        inception_weights=options.inception_weights,
    )


def _refuse(given: Mapping[str, object], reason: str) -> None:
    for name, value in given.items():
        if value is not None and value is not False and value != ():
            raise ValueError(f"--{name} has no effect: {reason}; leave it out")


def check(job: Job) -> None:
    """Check the arguments of a command, long before it is its turn.

    Raises:
        ValueError: A value is wrong.
    """
    module = importlib.import_module(cli.VERBS[job.verb].module)
    if job.verb == "train":
        train_verb.parse_request(job.arguments, "proxdm train")
        return
    options = cli.parse(getattr(module, job.verb.capitalize()), job.arguments, f"proxdm {job.verb}")
    if isinstance(options, evaluate_verb.Evaluate):
        _plan(options)


def _plan(options: evaluate_verb.Evaluate) -> EvaluationPlan:
    return make_plan(options, samplers=options.sampler, steps=options.steps, metrics=options.metrics)


def check_mark(out: Path, block: Block, *, smoke: bool) -> None:
    """Check that a folder is not that of another block, or of a tiny one.

    Raises:
        OutputError: It is.
    """
    path, wanted = out / MARK, {"block": block.name, "smoke": smoke}
    if not path.exists():
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found != wanted:
        raise OutputError(f"{out} holds {_words(found)}, not {_words(wanted)}; choose another folder with --out")


def write_mark(out: Path, block: Block, *, smoke: bool) -> None:
    """Write into a folder which block it is, unless it says so already."""
    if (out / MARK).exists():
        return
    with replacing(out / MARK) as part:
        part.write_text(json.dumps({"block": block.name, "smoke": smoke}) + "\n", encoding="utf-8")


def _words(mark: object) -> str:
    if not isinstance(mark, dict):
        return "something else"
    return f"the block {mark.get('block')}" + (" of --smoke" if mark.get("smoke") else "")


def remaining(job: Job) -> Job | None:
    """Return what is left of a command: itself, itself with `--resume`, or None if it is done.

    Raises:
        ConfigError: There is a run of another configuration.
    """
    if job.verb == "train":
        return _remaining_training(job)
    if job.verb == "evaluate":  # every row is looked up by its model, features and reference, which must be open
        return job
    if job.verb == "toy":
        return None if _same_toy(job) else job
    if job.verb == "compare":
        return None if _is_drawn(job) else job
    return None if job.makes.exists() else job


def _remaining_training(job: Job) -> Job | None:
    from proxdm.checkpoints import store

    config = train_verb.parse_request(job.arguments, "proxdm train").config
    if not store.is_run(job.makes):
        return job
    stored, latest = store.read_config(job.makes), store.latest(job.makes)
    store.check_same_run(stored, config)
    steps = config.training.steps
    if latest is not None and latest.step >= steps:
        return None
    longer = () if stored.training.steps == steps else ("--training.steps", str(steps))
    return replace(job, arguments=(*job.arguments, "--resume", *longer))


def _same_toy(job: Job) -> bool:
    """Return whether the results of the synthetic experiment are there, with these numbers."""
    options = cli.parse(toy_verb.Toy, job.arguments, "proxdm toy")
    try:
        record = json.loads((job.makes / toy_verb.RESULTS).read_text(encoding="utf-8"))
        found = record["dataset"], record["samples"], len(record["seeds"]), record["prox_mode"]
        steps = {int(n) for of in ("methods", "skipped") for cells in record[of].values() for n in cells}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return (*found, steps) == (options.dataset, options.samples, options.seeds, options.prox_mode, set(options.steps))


def _is_drawn(job: Job) -> bool:
    """Return whether the figure is not older than any of the rows in it."""
    made = job.makes / compare_verb.RESULT
    rows = Path(job.arguments[0]).glob(f"*/{RESULTS}")
    return made.exists() and all(path.stat().st_mtime <= made.stat().st_mtime for path in rows)


def run(block: Block, jobs: Sequence[Job], again: str) -> int:
    """Run the commands, print the table at the end, and return the exit status.

    Args:
        block: What they belong to.
        jobs: The commands.
        again: The command line to go on with.
    """
    measured: dict[str, Evaluation] = {}
    for number, job in enumerate(jobs, 1):
        left = remaining(job)
        print(f"\n[{number}/{len(jobs)}] {(left or job).command}", flush=True)
        if left is None:
            print(f"done already: {job.makes}")
            continue
        try:
            status = _run(left, measured)
        except KeyboardInterrupt:
            print(f"Go on with: {again}", file=sys.stderr)
            raise
        if status:
            print(f"Or all of it: {again}", file=sys.stderr)
            return status
    print("\n" + summary(block, jobs, measured))
    return 0


def _run(job: Job, measured: dict[str, Evaluation]) -> int:
    """Run a command as `proxdm` runs it, and return its status; what it measures is kept."""
    prog = f"proxdm {job.verb}"
    if job.verb == "train":
        return train_verb.run(train_verb.parse_request(job.arguments, prog), f"{prog} {job.arguments[0]}")
    if job.verb != "evaluate":
        status: int = importlib.import_module(cli.VERBS[job.verb].module).main(job.arguments, prog)
        return status
    options = cli.parse(evaluate_verb.Evaluate, job.arguments, prog)
    found = evaluate(
        options.source,
        _plan(options),
        out=options.out,
        preset=options.preset,
        device=options.device,
        progress=True,
        say=lambda line: print(f"{prog}: {line}", file=sys.stderr),
    )
    assert job.experiment is not None
    measured[job.experiment.name] = found
    print(evaluate_verb.report(found))
    return 0


def summary(block: Block, jobs: Sequence[Job], measured: Mapping[str, Evaluation]) -> str:
    """Return what a block has come to: a table of distances beside the paper's, or where the results are."""
    if not measured:
        made = [f"  {job.makes}" for job in jobs if job.experiment is not None or job.verb == "toy"]
        return "\n".join([f"{block.title}: in", *made])
    rows = [(one, row) for one in block.experiments if isinstance(one, Sweep) for row in measured[one.name].rows]
    features = sorted({row.features["name"] for _, row in rows})
    real = features == ["inception"]  # the paper's values say nothing about other features
    lines = []
    for one, row in rows:
        paper = one.paper.get(row.steps) if real else None
        expected = "–" if paper is None else f"{paper:g}"
        lines.append([one.name, row.sampler, str(row.nfe), f"{row.metrics['fid']:.4g}", expected])
    samples = ", ".join(f"{count:,}" for count in sorted({row.samples for _, row in rows}))
    note = "the paper's values are read off its figure" if real else f"{', '.join(features)} features: this is no FID"
    body = table(["experiment", "sampler", "NFE", "FID" if real else "distance", "paper"], lines)
    return f"{block.title}\n\n{body}\n\n{samples} samples a row; {note}."


def overview(block: Block, setting: Setting, jobs: Sequence[Job]) -> str:
    """Return the commands of a block, what they need and how much they are."""
    lines = [f"{block.name}: {block.title}", "", *(f"needs {need}" for need in needs(block, setting)), ""]
    for number, job in enumerate(jobs, 1):
        left = remaining(job)
        state = "; done already" if left is None else "; interrupted" if "--resume" in left.arguments else ""
        lines += [f"[{number}/{len(jobs)}] {(left or job).command}", f"      {job.about}{state}"]
    lines += ["", total(block, setting, jobs)]
    if any(job.verb == "train" for job in jobs) and not setting.smoke:
        lines.append("Memory and time of a training on this machine: proxdm train PRESET --dry-run")
    return "\n".join(lines)


def total(block: Block, setting: Setting, jobs: Sequence[Job]) -> str:
    """Return in one line how much a block is: steps of training, network evaluations."""
    trainings = [train_verb.parse_request(job.arguments, "").config.training for job in jobs if job.verb == "train"]
    evaluations = sum(samples_of(one, setting) * sum(one.steps) for one in block.experiments)
    parts = [f"{len(jobs)} {'command' if len(jobs) == 1 else 'commands'}"]
    if trainings:
        images = sum(training.steps * training.batch_size for training in trainings)
        steps = sum(training.steps for training in trainings)
        parts.append(f"{len(trainings)} trainings of {steps:,} steps on {images:,} images together")
    if block.presets:
        parts.append(f"{evaluations:,} network evaluations of a sample")
    return "; ".join(parts)


def needs(block: Block, setting: Setting) -> list[str]:
    """Return what has to be there, in words, and whether it is."""
    if setting.smoke or block.dataset is None:
        found = ["nothing: small stand-ins are made" if block.dataset else "nothing: the points are shipped"]
        return found + (["the paper's weights: downloaded"] if setting.weights == "official" else [])
    sweeps = any(isinstance(one, Sweep) for one in block.experiments)
    found = []
    if setting.weights == "trained" or (sweeps and setting.stats == "own"):
        found.append(f"the data set {block.dataset}: {_data_state(block.dataset)}")
    if setting.weights == "official":
        found.append(f"the paper's weights of {', '.join(block.presets)}: downloaded")
    if sweeps:
        found.append(
            "the Inception weights of the FID: " + str(setting.inception_weights or "downloaded once, 95.6 MB")
        )
        if setting.stats == "official":
            found.append("the paper's statistics: downloaded")
    else:
        from proxdm.data.vae import DEFAULT_VAE

        found.append(f"the autoencoder {DEFAULT_VAE}: downloaded once; the package diffusers")
    return found


def _data_state(name: str) -> str:
    from proxdm.data.errors import DataError
    from proxdm.data.load import load_data

    try:
        data = load_data(name)
    except DataError as error:
        return f"missing: {error}"
    return f"{len(data):,} images of {'x'.join(map(str, data.shape))}"
