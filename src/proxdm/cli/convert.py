"""`proxdm convert`: from one of the paper's `.pth` files to a model of this package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from proxdm.checkpoints.load import load_official
from proxdm.checkpoints.portable import save_model
from proxdm.networks import parameter_count


@dataclass(frozen=True)
class Convert:
    """Write one of the paper's .pth files as a model that says by itself what it holds, without pickles."""

    official: Positional[Path]  # The .pth file.
    # A .safetensors file, or a folder for model.safetensors and config.json.
    out: Annotated[Path, arg(aliases=("-o",))]
    # The preset it belongs to, e.g. cifar10-prox-hybrid; may be left out while the file has its published name.
    preset: str | None = None
    weights: str = "ema0.9999"  # Weight set: ema0.9999 (moving average) or model.
    overwrite: bool = False  # Replace what is there.


def run(options: Convert, prog: str) -> int:
    """Run the verb and return the exit status."""
    model = load_official(options.official, options.preset, options.weights)
    origin = f"the paper's {options.official.name} ({options.weights})"
    path = save_model(model, options.out, weights=options.weights, origin=origin, overwrite=options.overwrite)
    print(f"{model.config.preset}, {options.weights}, {parameter_count(model.network):,} parameters: {path}")
    return 0
