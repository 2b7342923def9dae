"""`proxdm doctor`: versions, devices, caches and the hub, as a report of a problem should have them."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from huggingface_hub import constants
from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

from proxdm._version import __version__
from proxdm.checkpoints.load import BOX
from proxdm.data.known import DATASETS, cache_folder
from proxdm.metrics.inception import weights_path

OPTIONAL = {
    "diffusers": "diffusers",
    "deepinv": "deepinv",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "onnxruntime": "",
    "k-diffusion": "",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "trackio": "trackio",
}
"""Optional packages, and the extra that installs each."""


@dataclass(frozen=True)
class Doctor:
    """Say which versions, devices, caches and data there are, and whether the hub can be reached."""

    offline: bool = False  # Do not ask the hub.


def run(options: Doctor, prog: str) -> int:
    """Run the verb and return the exit status."""
    rows = versions() | {"devices": devices()} | places() | {"hub": "not asked" if options.offline else hub()}
    print("\n".join(f"{what:<19}{state}" for what, state in rows.items()))
    return 0


def versions() -> dict[str, str]:
    """Return the versions of what is needed and of what is optional."""
    rows = {"proxdm": __version__, "Python": f"{platform.python_version()}, {platform.platform()}"}
    for name in ("torch", "torchvision", "numpy", "huggingface_hub", *OPTIONAL):
        try:
            rows[name] = version(name)
        except PackageNotFoundError:
            extra = OPTIONAL.get(name)
            rows[name] = "not installed: pip install " + (f'"proxdm[{extra}]"' if extra else name)
    return rows


def devices() -> str:
    """Return the devices that torch sees."""
    found = [f"cpu, {os.cpu_count()} cores, {torch.get_num_threads()} threads"]
    found += [f"cuda:{i}, {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps (no float64: priors and schedules are computed on the CPU)")
    return "; ".join(found)


def places() -> dict[str, str]:
    """Return the folders that are read and written, and what is in them."""
    root = cache_folder()
    there = [name for name in DATASETS if (root / name).exists()]
    weights = weights_path()
    return {
        "data sets": f"{root} ({_writable(root)}): {', '.join(there) or 'none yet'}",
        "Inception weights": f"{weights}: {'there' if weights.is_file() else 'not there; proxdm download inception'}",
        "hub cache": f"{constants.HF_HOME} ({_writable(Path(constants.HF_HOME))})",
        "models in the box": ", ".join(BOX),
    }


def hub() -> str:
    """Return whether the hub answers."""
    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception as error:  # whatever an HTTP library raises
        return f"{constants.ENDPOINT} cannot be reached ({type(error).__name__}); HF_ENDPOINT names a mirror"
    return f"{constants.ENDPOINT} answers"


def _writable(path: Path) -> str:
    """Return whether a folder, or the first one above it that is there, can be written to."""
    while not path.exists():
        path = path.parent
    return "writable" if os.access(path, os.W_OK) else "not writable"
