"""`proxdm push`: a trained model to the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import dataclass

from tyro.conf import Positional

from proxdm.checkpoints.load import find, remarks
from proxdm.cli.options import speaker
from proxdm.publishing import push


@dataclass(frozen=True)
class Push:
    """Put a model on the Hugging Face Hub, with its configuration and a model card.

    Log in first: `hf auth login`, or set HF_TOKEN.
    """

    source: Positional[str]  # A run, a checkpoint, or a model file or folder.
    repo: Positional[str]  # The repository, owner/name; it is made if there is none.
    weights: str | None = None  # Weight set: ema-0.9999, raw; by default the moving average.
    license: str | None = None  # Licence of the weights, e.g. apache-2.0.
    private: bool = False  # Make a new repository private.
    message: str = "Upload a proxdm model"  # Of the commit.
    replace_card: bool = False  # Replace the card that the repository has; by default it is left alone.
    dry_run: bool = False  # Send nothing: print the card and name the files.


def run(options: Push, prog: str) -> int:
    """Run the verb and return the exit status."""
    for line in remarks(find(options.source, options.weights)):
        speaker(prog)(line)
    settings = vars(options) | {"private": options.private or None}
    published = push(settings.pop("source"), settings.pop("repo"), **settings)
    sizes = ", ".join(f"{name} ({size:,} bytes)" for name, size in published.sizes.items())
    if published.url is None:
        print(f"{published.card}\nWould go to {options.repo}: {sizes}")
    else:
        print(f"{published.weights} of {options.source}, {sizes}: {published.url}")
    return 0
