"""Models and whole samplers as one graph: torch.export's programs and ONNX files, for onnxruntime.

A sampler with its prior at a given N is a function of the noise alone: `noise (B, *) -> samples (B, *)`, float32, the
numbers that :func:`proxdm.sample` gives for that noise. Only samplers that draw no noise on the way are functions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from proxdm.errors import ProxdmError, one_line
from proxdm.grids import TimeGrid
from proxdm.models import LearnedModel
from proxdm.operators import Ask, Model
from proxdm.priors import Prior
from proxdm.runtime.files import replacing
from proxdm.samplers.base import Sampler, start_of
from proxdm.schedules import Schedule


class GraphError(ProxdmError, ValueError):
    """A model or a sampler cannot be written as a graph."""


class _Numbers:
    """A schedule whose values at the times of a grid are plain numbers, which a graph holds as constants."""

    def __init__(self, schedule: Schedule, grid: TimeGrid) -> None:
        self._schedule, self._values, times = schedule, {}, grid.times.tolist()
        for name in ("alpha", "sigma", "ratio", "alpha_bar", "noise_variance", "initial_std"):
            self._values[name] = {t: float(getattr(schedule, name)(t)) for t in times}

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """Its own class, and for `isinstance` that of the schedule, which some samplers ask for."""
        return type(self._schedule)

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._schedule, name)
        if name not in self._values:
            return function
        known = self._values[name]
        return lambda t: known[t] if isinstance(t, float) else function(t)


class SamplerGraph(nn.Module):
    """A sampler of a model, whose weights are in `network`, on a grid as a module `noise -> samples`.

    Samplers that draw noise have none (GraphError), which its first call shows.
    """

    def __init__(self, model: Model, network: nn.Module, sampler: Sampler, grid: TimeGrid, prior: Prior | None) -> None:
        super().__init__()
        sampler.check(model.schedule, grid)
        self.network = network
        self.model, self.sampler, self.grid, self.prior = [model], sampler, grid, prior
        self.numbers = _Numbers(model.schedule, grid)

    def forward(self, noise: Tensor) -> Tensor:
        """Return the samples that the noise becomes."""
        ask: Any = Ask(self.model[0], self.sampler.operator, self.prior)
        ask.schedule = self.numbers
        pairs = self.grid.pairs()
        x = start_of(ask.schedule, pairs[0][0], noise, self.prior)
        carry = self.sampler.init(ask, x, self.grid)
        for t, s in pairs:
            x, carry = self.sampler.step(ask, x, t, s, self._refuse, carry)
        return x

    def _refuse(self) -> Tensor:
        raise GraphError(f"{self.sampler} draws noise at its steps, which a graph of the first noise cannot: take one "
                         "that draws none, such as multistep")  # fmt: skip


class OperatorGraph(nn.Module):
    """What a model is for as a module: `(x, t (B,)) -> E[x_0 | x_t]`, or `(x, t, lam) -> prox` of a prox model."""

    def __init__(self, model: LearnedModel) -> None:
        super().__init__()
        self.model = model.eval()

    def forward(self, x: Tensor, t: Tensor, lam: Tensor | None = None) -> Tensor:
        """Return the denoised samples, or the prox."""
        model: Any = self.model
        return model.denoise(x, t) if lam is None else model.prox(x, t, lam)  # type: ignore[no-any-return]


def write_graph(module: nn.Module, example: tuple[Tensor, ...], path: Path, *, open_batch: bool) -> None:
    """Write a module as an ONNX file, `.onnx`, weights inside, or as a program of torch.export, `.pt2`.

    It is traced with `example` inputs; its batch is theirs, or open. A GraphError says that it cannot be.
    """
    to_onnx = path.suffix == ".onnx"
    if to_onnx:
        try:
            import onnx
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise GraphError(f'ONNX files need onnx and onnxscript ({error}): pip install "proxdm[onnx]"') from error
    size = torch.export.Dim("batch", min=1, max=4096)
    shapes = tuple({0: size} for _ in example) if open_batch else None
    names = (["noise"], ["samples"]) if len(example) == 1 else (["x", "t", "lam"][: len(example)], ["output"])
    try:
        with torch.no_grad():
            module(*example)  # what is computed once and kept, numbers of whole tensors among it, is not to be traced
            made: Any = torch.export.export(module, example, dynamic_shapes=shapes, strict=False)
        if to_onnx:
            made = torch.onnx.export(
                made, dynamo=True, opset_version=20, input_names=names[0], output_names=names[1], verbose=False
            )
    except GraphError:
        raise
    except Exception as error:  # the exporter raises whatever comes to its mind
        raise GraphError(f"the model cannot be written as {path.suffix}: {one_line(error)[:300]}") from error
    with replacing(path) as part:
        if to_onnx:
            onnx.save(_compacted(made.model_proto), str(part))
        else:
            with part.open("wb") as file:
                torch.export.save(made, file)


def _compacted(model: Any) -> Any:
    """Return an ONNX model without notes of its making, and with every array once, in float32 where that is exact.

    Priors compute in float64 with numbers that float32 holds, and once more in float32: half and twice the room.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    known: dict[tuple[bytes, tuple[int, ...]], str] = {}
    kept, casts, renamed = [], [], {}
    for tensor in graph.initializer:
        value = numpy_helper.to_array(tensor)
        single = value.astype(np.float32)
        if value.dtype not in (np.float32, np.float64) or not np.array_equal(single, value):
            kept.append(tensor)
            continue
        name = known.setdefault((single.tobytes(), single.shape), f"{tensor.name}.float32")
        if name == f"{tensor.name}.float32":
            kept.append(numpy_helper.from_array(single, name))
        if value.dtype == np.float64:
            casts.append(helper.make_node("Cast", [name], [tensor.name], to=TensorProto.DOUBLE))
        else:
            renamed[tensor.name] = name
    nodes = list(graph.node)
    for node in nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        del node.metadata_props[:]
        node.doc_string = ""
    for part, values in ((graph.initializer, kept), (graph.node, [*casts, *nodes]), (graph.value_info, [])):
        del part[:]
        part.extend(values)
    return model
