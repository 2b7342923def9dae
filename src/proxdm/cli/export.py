"""`proxdm export`: a model for other programs, alone or with its sampler as one graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from tyro.conf import Positional, arg

from proxdm.checkpoints.portable import model_config
from proxdm.cli.options import ModelOptions, speaker
from proxdm.errors import check_least
from proxdm.generation import GRIDS_HELP, GUIDANCE_HELP, PRIOR_HELP, SAMPLERS_HELP, choose_method, operand, remarks
from proxdm.integrations import graphs
from proxdm.models import LearnedModel
from proxdm.operators import label_indices, of_classes
from proxdm.runtime.files import check_new

Format = Literal["diffusers", "onnx", "torch-export"]

SAMPLERS_OWN = ("sampler", "grid", "prior", "start", "class_name", "guidance")
"""Options that a sampler has, and a network alone has not."""

ENDINGS = {"onnx": ".onnx", "torch-export": ".pt2"}


@dataclass(frozen=True, kw_only=True)
class Export(ModelOptions):
    """Write a model for other programs.

    diffusers: the folder of a pipeline, with the model's prior in its scheduler. onnx, torch-export: one file, of the
    model alone, (x, t) to the denoised samples and (x, t, lam) to the prox, or, with --steps, of the whole sampler with
    its prior, noise to samples.
    """

    # A run, a checkpoint, a model file or folder, a repository on the hub (owner/name), hf:FOLDER, or one of the
    # paper's .pth files.
    source: Annotated[Positional[str], arg(metavar="MODEL")]
    to: Format  # diffusers, onnx or torch-export.
    out: Annotated[Path, arg(aliases=("-o",))]  # A folder for diffusers, else a .onnx or .pt2 file.
    steps: int | None = None  # Of the sampler that goes into the file; by default the model alone goes.
    sampler: Annotated[str | None, arg(help=f"{SAMPLERS_HELP}; one that draws no noise.")] = None
    grid: Annotated[str | None, arg(help=GRIDS_HELP)] = None
    prior: Annotated[str | None, arg(help=PRIOR_HELP)] = None
    start: float | None = None  # Ratio sigma / alpha to start from, with a prior.
    # Of a model of classes, the one that the sampler draws; by default none in particular.
    class_name: Annotated[str | None, arg(name="class", metavar="NAME")] = None
    guidance: Annotated[float, arg(help=GUIDANCE_HELP)] = 1.0
    batch: int | None = None  # A fixed number of samples, for programs that want one; by default it is open.
    overwrite: bool = False  # Replace what is there.

    def __post_init__(self) -> None:
        """Check every value that does not need the model."""
        if self.to != "diffusers" and self.out.suffix != (ending := ENDINGS[self.to]):
            raise ValueError(f"--out = {self.out} must end in {ending} for --to {self.to}")
        check_least(1, steps=self.steps, batch=self.batch)
        if self.steps is None and (wrong := [k for k in SAMPLERS_OWN if getattr(self, k) not in (None, 1.0)]):
            raise ValueError(f"--{wrong[0].removesuffix('_name')} is of a sampler: give --steps, its number of steps")
        if self.to == "diffusers" and self.steps is not None:
            raise ValueError(f"--steps = {self.steps} is chosen when a pipeline is called: leave it out")


def run(options: Export, prog: str) -> int:
    """Run the verb and return the exit status."""
    inside = [one for one in options.out.rglob("*") if one.is_file()] if options.out.is_dir() else [options.out]
    check_new(*inside, overwrite=options.overwrite)
    opened = options.open(options.source, "cpu")
    for line in opened.remarks:
        speaker(prog)(line)
    if options.to == "diffusers":
        from proxdm.integrations.diffusers import to_pipeline

        to_pipeline(opened.model).save_pretrained(options.out)
        what = "a pipeline, read by diffusers where proxdm is installed"
    else:
        what = write_graph(opened.model, options, prog)
    print(f"{options.out}: {what}")
    return 0


def write_graph(model: LearnedModel, options: Export, prog: str) -> str:
    """Write the file of a model or a sampler, and return in words what it holds."""
    shape, count = model_config(model.config).shape, options.batch or 2
    x = torch.zeros(count, *shape)
    module: Any = graphs.OperatorGraph(model)
    t = torch.full((count,), 0.5)
    example: tuple[Any, ...] = (x, t) if model.kind == "score" else (x, t, t.clone())
    what = "x, t to denoised samples" if model.kind == "score" else "x, t, lam to the prox"
    if options.steps is not None:
        told = () if options.class_name is None else (options.class_name,)
        chosen = (options.sampler, options.grid, options.prior, options.start)
        method = choose_method(model, *chosen, told, options.guidance)
        if options.guidance != 1 and not told:
            raise ValueError(f"--guidance = {options.guidance:g} leads to a class: name it with --class")
        found = label_indices(model.classes, told, range(1)) if told else None
        label = None if found is None else int(found)
        asked = of_classes(model, label, options.guidance)
        prior = None if method.prior is None else method.prior.given(label)
        grid = method.times(model.schedule, options.steps)
        for line in remarks(model, method.sampler, grid):
            speaker(prog)(line)
        module = graphs.SamplerGraph(operand(asked, method.sampler), model.network, method.sampler, grid, prior)
        what = f"noise to samples{'' if label is None else f' of {options.class_name}'} by {method.name} on {grid.name}"
        example = (x,)
    graphs.write_graph(module, example, options.out, open_batch=options.batch is None)
    sizes = "x".join(map(str, shape))
    return f"{what}, {sizes}, batch {options.batch or 'open'}, {options.out.stat().st_size / 1e6:.1f} MB"
