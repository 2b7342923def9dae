"""The Hugging Face Hub: the paper's published files, and model repositories of this package.

Everything goes through huggingface_hub, with its cache (`HF_HOME`), its endpoint (`HF_ENDPOINT`), its offline switch
(`HF_HUB_OFFLINE`) and its credentials. Every file that arrives is checked against the checksum the hub gives for it:
SHA-256 for large files, the Git object name for small ones. A model repository holds `model.safetensors`, which carries
its own configuration, and for readers `config.json` and a model card.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from proxdm.checkpoints.portable import MODEL_FILE
from proxdm.errors import CheckpointError, ProxdmError
from proxdm.presets import ROWS

OFFICIAL_REPO = "ZhenghanFang/prox-diffusion"
"""Where the authors of arXiv 2507.08956 keep weights and FID statistics."""

OFFICIAL_MODELS: dict[str, str] = {
    name: f"{name.replace('celebahq', 'celeba-hq').replace('-', '_')}.pth"
    for name, (setting, *_) in ROWS.items()
    if setting in ("mnist", "cifar10", "celebahq")
}
"""The published weights: preset they belong to, and file in :data:`OFFICIAL_REPO`."""

OFFICIAL_STATS: dict[str, str] = {"mnist": "fid_stats/mnist.npz", "cifar10": "fid_stats/cifar10.npz"}
"""The published FID statistics: data set, and file (`mu`, `sigma`) in :data:`OFFICIAL_REPO`."""

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_LOGIN = "log in with `hf auth login` or set HF_TOKEN"
_REASONS = {
    "HFValidationError": "{repo} is not the name of a repository on the hub; it must read owner/name",
    "GatedRepoError": f"access to {{repo}} is restricted: accept its terms on its page on the hub, and {_LOGIN}",
    "RepositoryNotFoundError": f"the hub has no repository {{repo}}, or it is private: check the name, or {_LOGIN}",
    "RevisionNotFoundError": "the hub has no such revision of {repo}; leave it out, or name a branch or a commit",
    "LocalEntryNotFoundError": "the hub cannot be reached, and {filename} of {repo} is not in the cache; go online "
    "(with HF_HUB_OFFLINE unset), name a mirror in HF_ENDPOINT, or fetch the file elsewhere and give its path",
    "EntryNotFoundError": "{repo} has no file {filename} on the hub",
    "Offline": "the hub cannot be reached, and nothing was written to {repo}; go online and try again",
    "LocalTokenNotFoundError": f"the hub does not let you write to {{repo}}: {_LOGIN}, with a token that may write",
    "HfHubHTTPError": "the hub refuses {filename} of {repo} (HTTP status {status}); try again later",
}
"""What the errors of huggingface_hub mean to us, special ones before those that they are derived from."""


class HubError(ProxdmError, OSError):
    """The hub cannot be reached, lacks what was asked for, or sent something else than it announced."""


class RepoId(NamedTuple):
    """A repository on the hub, `owner/name`, and a branch, tag or commit; None is the main branch."""

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.name if self.revision is None else f"{self.name}@{self.revision}"


def parse_repo_id(text: str) -> RepoId | None:
    """Return the repository that `owner/name` or `owner/name@revision` names, or None if the text has another form."""
    if not _REPO_ID.fullmatch(text) or ".." in text or text.endswith((".safetensors", ".pth", ".pt", ".npz")):
        return None
    name, _, revision = text.partition("@")
    return RepoId(name, revision or None)


def fetch(repo: RepoId, filename: str) -> Path:
    """Return a file of a repository, from the cache or freshly downloaded, its checksum verified."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    checksum, offline = None, False
    with explained(repo, filename):
        try:
            # huggingface_hub retries for half a minute where there is no network; this call fails at once.
            checksum = get_hf_file_metadata(hf_hub_url(repo.name, filename, revision=repo.revision)).etag
        except Exception as error:
            offline = _is_network(error)
            if not offline and _status(error) not in (429, *range(500, 600)):
                raise
        path = Path(hf_hub_download(repo.name, filename, revision=repo.revision, local_files_only=offline))
    _verify(path, checksum)
    return path


def fetch_model(repo: RepoId) -> Path:
    """Return the model file of a repository, as :func:`fetch`; a CheckpointError says that the paper's has none."""
    if repo.name == OFFICIAL_REPO:
        raise CheckpointError(
            f"{repo} holds .pth files: get one with `proxdm download models NAME`, then load_official"
        )
    try:
        return fetch(repo, MODEL_FILE)
    except HubError as error:
        raise HubError(f"there is no file or folder {repo} here, and {error}") from error


@contextmanager
def explained(repo: RepoId, filename: str, *, writing: bool = False) -> Iterator[None]:
    """Turn what huggingface_hub raises inside the block into a :class:`HubError` of one line."""
    from huggingface_hub.utils import logging as hub_logging

    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)  # its warnings about every attempt say less than our one line
    try:
        yield
    except Exception as error:
        names, status = [kind.__name__ for kind in type(error).__mro__], _status(error)
        if _is_network(error):
            names = ["Offline" if writing else "LocalEntryNotFoundError"]
        elif writing and status in (401, 403):
            names = ["LocalTokenNotFoundError"]
        reason = next((words for name, words in _REASONS.items() if name in names), None)
        if reason is None:
            raise
        raise HubError(reason.format(repo=repo, filename=filename, status=status)) from error
    finally:
        hub_logging.set_verbosity(verbosity)


def _verify(path: Path, checksum: str | None) -> None:
    """Remove a file of the cache and raise a HubError if it has another SHA-256 (64 digits) or Git object name (40).

    Without a checksum from the hub that of the content's name is taken: the cache keeps content under its checksum.
    """
    # One link only: the content itself may be a link into a store with other names.
    content = path.parent / path.readlink() if path.is_symlink() else path
    expected = checksum or content.name
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", expected):
        return
    digest = hashlib.sha256() if len(expected) == 64 else hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: digest).hexdigest()
    if found != expected:
        path.unlink()
        content.unlink(missing_ok=True)
        raise HubError(
            f"{path.name} is damaged (checksum {found[:12]}..., the hub says {expected[:12]}...) and was removed from "
            "the cache; try again"
        )


def _is_network(error: Exception) -> bool:
    """Return whether there is no connection. Which HTTP library says so depends on huggingface_hub's version."""
    clients = ("httpx", "httpx2", "httpcore", "requests", "urllib3")
    return type(error).__name__ == "OfflineModeIsEnabled" or type(error).__module__.split(".")[0] in clients


def _status(error: Exception) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", None) or 0)
