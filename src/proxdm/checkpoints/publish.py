"""From a run to a repository on the hub: the portable model, its configuration and a card."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from proxdm.checkpoints import hub
from proxdm.checkpoints.card import CardOptions, model_card, public_config
from proxdm.checkpoints.load import Found, find, read
from proxdm.checkpoints.portable import CONFIG_FILE, MODEL_FILE, save_model
from proxdm.errors import CheckpointError

CARD_FILE = "README.md"
PICTURE_FILE = "samples.png"


@dataclass(frozen=True)
class Published:
    """What was put on the hub.

    Attributes:
        url: Address of the commit.
        weights: Weight set that was published.
        files: Names of the files.
    """

    url: str
    weights: str
    files: tuple[str, ...] = field(default=())


def push(
    source: str | Path,
    repo_id: str,
    weights: str | None = None,
    *,
    license: str | None = None,  # noqa: A002 - the hub's own word
    private: bool | None = None,
    message: str = "Upload a proxdm model",
    replace_card: bool = False,
) -> Published:
    """Put a model into a repository on the Hugging Face Hub, from where :func:`proxdm.load` loads it.

    One commit with `model.safetensors` (which carries its configuration), `config.json` and a model card; of a run
    also its latest preview of samples. Needs credentials: `hf auth login`, or `HF_TOKEN`.

    Args:
        source: Anything that :func:`~proxdm.checkpoints.load.find` takes: a run, a checkpoint, a file, a folder.
        repo_id: `owner/name` or `owner/name@branch`; a repository is made if there is none.
        weights: Weight set; by default the first moving average.
        license: Identifier of the weights' licence, e.g. `apache-2.0`.
        private: Make a new repository private.
        message: Of the commit.
        replace_card: Replace a card that the repository has already; it may have been edited by hand.

    Raises:
        CheckpointError: The source is no model, or `repo_id` is no name of a repository.
        HubError: No connection or no permission.
    """
    repo = hub.parse_repo_id(repo_id)
    if repo is None:
        raise CheckpointError(f"{repo_id!r} is not the name of a repository on the hub; it must read owner/name")
    found = find(source, weights)
    with tempfile.TemporaryDirectory(prefix="proxdm-") as folder:
        files = prepare(found, repo, Path(folder), license=license)
        keep = () if replace_card else (CARD_FILE,)
        url = hub.upload(repo, files, private=private, message=message, keep=keep)
    return Published(url, found.weights, tuple(files))


def prepare(found: Found, repo: hub.RepoId, folder: Path, *, license: str | None = None) -> Mapping[str, Path]:  # noqa: A002
    """Write the files of a repository into an empty folder and return them by name.

    Args:
        found: The model.
        repo: The repository, for the card.
        folder: Where to.
        license: Identifier of the weights' licence.

    Raises:
        CheckpointError: The model is damaged.
    """
    record, model = found.file, read(found)
    model.config = public_config(found.config)
    save_model(model, folder, weights=found.weights, step=record.step, origin=record.origin)
    names = [MODEL_FILE, CONFIG_FILE, CARD_FILE]
    files = {name: folder / name for name in names}
    picture = _preview(found)
    if picture is not None:
        files[PICTURE_FILE] = picture
    options = CardOptions(repo.name, license, None if picture is None else PICTURE_FILE)
    files[CARD_FILE].write_text(model_card(found, options), encoding="utf-8")
    return files


def _preview(found: Found) -> Path | None:
    """Return the latest picture that a run made of its samples, or None."""
    if found.checkpoint is None:
        return None
    return max((found.checkpoint.parent.parent / "previews").glob("*.png"), default=None)
