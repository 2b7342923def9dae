"""Priors in files: float32 tensors and a line of JSON, by themselves or within the file of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proxdm.priors.base import Facts, GainCurve, Prior, PriorError
from proxdm.priors.gaussian import GaussianPrior
from proxdm.priors.mixture import MixturePrior
from proxdm.runtime.files import check_new, replacing

PREFIX = "proxdm.prior."
"""Before the names of a prior's tensors in the file of a model."""

KEY = "prior"
"""Of its line of JSON in the metadata."""

KINDS: dict[str, type[GaussianPrior] | type[MixturePrior]] = {"gaussian": GaussianPrior, "mixture": MixturePrior}


def write_prior(prior: Prior) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a prior, under names that begin with :data:`PREFIX`, and its line of JSON."""
    kind = next((name for name, one in KINDS.items() if type(prior) is one), None)
    if kind is None:
        raise PriorError(f"a {type(prior).__name__} is not kept in files; only {', '.join(KINDS)} priors are")
    facts = {name: value for name, value in asdict(prior.facts).items() if value not in (float("inf"), -float("inf"))}
    curve = None if prior.curve is None else asdict(prior.curve)
    line = json.dumps({"kind": kind, "shape": prior.shape, "facts": facts, "curve": curve})
    return {PREFIX + k: v.detach().float().cpu().contiguous() for k, v in prior.tensors().items()}, line


def read_prior(
    tensors: Mapping[str, Tensor], line: str, where: str | Path = "the file"
) -> GaussianPrior | MixturePrior:
    """Return the prior of :func:`write_prior`; tensors of other names are not looked at."""
    try:
        said: dict[str, Any] = json.loads(line)
        own = {k.removeprefix(PREFIX): v.to(torch.float64) for k, v in tensors.items() if k.startswith(PREFIX)}
        curve = said["curve"]
        if curve is not None:
            curve = GainCurve(tuple(curve["ratios"]), tuple(curve["gains"]), curve["images"], curve["schedule"])
        return KINDS[said["kind"]](**own, shape=tuple(said["shape"]), facts=Facts(**said["facts"]), curve=curve)
    except (ValueError, KeyError, TypeError) as error:
        raise PriorError(f"the prior in {where} cannot be read ({error}); get the file again") from error


def save_prior(prior: Prior, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a prior to a `.safetensors` file, if none is there (OutputError), and return its path."""
    from safetensors.torch import save_file

    path, (tensors, line) = Path(path), write_prior(prior)
    check_new(path, overwrite=overwrite)
    with replacing(path) as part:
        save_file(tensors, part, metadata={KEY: line})
    return path


def load_prior(path: str | Path) -> GaussianPrior | MixturePrior:
    """Return the prior in a file, one of its own or of a model; a PriorError says that there is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            line = (file.metadata() or {}).get(KEY)
            tensors = {key: file.get_tensor(key) for key in file.keys() if key.startswith(PREFIX)}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise PriorError(f"{path} cannot be read as a prior ({error}); proxdm prior fit makes one") from error
    if line is None:
        raise PriorError(f"there is no prior in {path}; proxdm prior fit makes one")
    return read_prior(tensors, line, path)
