"""The help of a verb, with examples at its end, kept so that it is shown in a tenth of a second from then on.

What a verb takes follows from dataclasses whose modules import torch, which takes seconds. The text is therefore kept
in `~/.cache/proxdm/help`, under a name that depends on the arguments, the width of the terminal, the plugins, and the
version and time of every file of this package.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from proxdm._version import __version__

EXAMPLES: dict[str, tuple[str, ...]] = {
    "toy": ("proxdm toy --dataset dino", "proxdm toy --dataset star --steps 5 10 --seeds 3 --out toy/star"),
    "rates": ("proxdm rates", "proxdm rates --methods prox-hybrid heun --steps 8 16 32 64"),
    "train": (),
    "prior": ("proxdm prior fit runs/pictures", "proxdm prior show fashion-mnist --figure prior.png"),
    "sample": (
        "proxdm sample fashion-mnist --steps 2",
        "proxdm sample fashion-mnist-classes --class bag sneaker --guidance 2 --steps 3",
        "proxdm sample hf:google/ddpm-cifar10-32 --steps 5 --out pictures/",
    ),
    "evaluate": (
        "proxdm evaluate runs/pictures --steps 2 3 5 --samples 2000 --features features/pictures.pt",
        "proxdm evaluate fashion-mnist --sampler multistep dpm++2m --prior none --metrics fid precision-recall",
    ),
    "mosaic": ("proxdm mosaic fashion-mnist --out mosaic.png",),
    "demo": ("proxdm demo --out demo",),
    "tune": ("proxdm tune runs/pictures --sampler dpm++2m --steps 2 3 5 --features features/pictures.pt",),
    "compare": ("proxdm compare runs/pictures --sampler multistep ddim --steps 2 3 5 10 --samples 2000",),
    "fid": ("proxdm fid generated/ real/", "proxdm fid a.zip b.npz --metrics kid --features pixels"),
    "report": ("proxdm report runs/pictures --out report.html",),
    "info": ("proxdm info fashion-mnist",),
    "convert": ("proxdm convert cifar10-prox-hybrid.pth --out cifar10-prox-hybrid.safetensors",),
    "export": (
        "proxdm export fashion-mnist --to onnx --steps 2 --out garments.onnx",
        "proxdm export runs/pictures --to diffusers --out pipeline/",
    ),
    "download": ("proxdm download datasets fashion-mnist",),
    "stats": ("proxdm stats pictures/ --out pictures.npz",),
    "features": ("proxdm features train fashion-mnist", "proxdm features train pictures/ --size 32"),
    "reproduce": ("proxdm reproduce toy", "proxdm reproduce mnist --dry-run"),
    "doctor": ("proxdm doctor",),
    "completion": ("proxdm completion bash >> ~/.bashrc",),
    "push": ("proxdm push runs/pictures me/pictures --dry-run",),
}
"""Of every verb; `train`, which has no dataclass of its own at first, shows its examples itself."""


def wants_help(arguments: Sequence[str]) -> bool:
    """Return whether the help of a verb is asked for in general: what data or files are like has no part in it."""
    *others, last = arguments or [""]
    return last in ("-h", "--help") and not any(one.startswith("-") or Path(one).exists() for one in others)


def show(verb: str, arguments: Sequence[str], call: Callable[[str, Sequence[str]], int]) -> None:
    """Print the help of a verb, which is what its call prints."""
    place = _place(verb, arguments)
    try:
        text = place.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        written = io.StringIO()
        with contextlib.redirect_stdout(written):
            try:
                call(verb, arguments)
            except SystemExit as stop:
                if stop.code:
                    raise
        text = written.getvalue()
        if lines := EXAMPLES.get(verb):
            text += "\nexamples:\n" + "".join(f"  {line}\n" for line in lines)
        from proxdm.runtime.files import write_text

        with contextlib.suppress(OSError):  # nobody is told that it will be slow again
            write_text(place, text)
    print(text, end="")


def _place(verb: str, arguments: Sequence[str]) -> Path:
    """Return the file of a help text."""
    root = Path(__file__).parents[1]
    files = sorted((path.name, path.stat().st_mtime_ns) for path in root.rglob("*.py"))
    plugins = sorted(one.value for one in entry_points(group="proxdm.plugins"))
    facts = (__version__, sys.version, verb, *arguments, shutil.get_terminal_size().columns, plugins, files)
    return Path("~/.cache/proxdm/help").expanduser() / f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:24]}.txt"
