"""`proxdm push`: a trained model to the Hugging Face Hub."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from proxdm.checkpoints.hub import parse_repo_id
from proxdm.checkpoints.load import find
from proxdm.checkpoints.publish import CARD_FILE, prepare, push
from proxdm.cli import parse
from proxdm.errors import CheckpointError


@dataclass(frozen=True)
class Push:
    """Put a model on the Hugging Face Hub, with its configuration and a model card.

    Log in first: `hf auth login`, or set HF_TOKEN.
    """

    source: Positional[str]
    """A run, a checkpoint, or a model file or folder."""

    repo: Positional[str]
    """The repository, owner/name; it is made if there is none."""

    weights: str | None = None
    """Weight set: ema-0.9999, raw; by default the moving average."""

    license: str | None = None
    """Licence of the weights, e.g. apache-2.0."""

    private: bool = False
    """Make a new repository private."""

    message: str = "Upload a proxdm model"
    """Of the commit."""

    replace_card: bool = False
    """Replace the card that the repository has; by default it is left alone."""

    dry_run: bool = False
    """Send nothing: print the card and name the files."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the verb and return the exit status.

    Args:
        arguments: What stands after the verb.
        prog: Name for help and messages.
    """
    options = parse(Push, arguments, prog)
    if options.dry_run:
        return _show(options)
    published = push(
        options.source,
        options.repo,
        options.weights,
        license=options.license,
        private=options.private or None,
        message=options.message,
        replace_card=options.replace_card,
    )
    print(f"{published.weights} of {options.source} ({', '.join(published.files)}): {published.url}")
    return 0


def _show(options: Push) -> int:
    """Print what would be sent."""
    repo = parse_repo_id(options.repo)
    if repo is None:
        raise CheckpointError(f"{options.repo!r} is not the name of a repository on the hub; it must read owner/name")
    with tempfile.TemporaryDirectory(prefix="proxdm-") as folder:
        files = prepare(find(options.source, options.weights), repo, Path(folder), license=options.license)
        print(files[CARD_FILE].read_text(encoding="utf-8"))
        sizes = ", ".join(f"{name} ({path.stat().st_size:,} bytes)" for name, path in files.items())
    print(f"Would go to {repo}: {sizes}")
    return 0
