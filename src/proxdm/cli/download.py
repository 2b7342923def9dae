"""`proxdm download`: the paper's weights and statistics, data sets, and the Inception weights of the FID."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from proxdm.checkpoints import hub
from proxdm.cli.tables import table
from proxdm.errors import OutputError, unknown_name
from proxdm.runtime.files import replacing

What = Literal["models", "stats", "datasets", "inception"]


@dataclass(frozen=True)
class Download:
    """Fetch the paper's weights (models) and FID statistics (stats), data sets, or the FID's Inception weights.

    Weights and statistics go into the cache of the Hugging Face Hub (HF_HOME), data sets into PROXDM_DATA or
    ~/.cache/proxdm/data; what is there already is kept. Checksums are verified.
    """

    what: Positional[What]  # models, stats, datasets or inception.
    names: Positional[tuple[str, ...]] = ()  # Which ones; see --list. `all` is all of them.
    list: bool = False  # Say what there is, and download nothing.
    # Put them into this folder as well (data sets: into this folder instead of the usual one).
    out: Annotated[Path | None, arg(aliases=("-o",))] = None


def run(options: Download, prog: str) -> int:
    """Fetch what is asked for, and return the exit status."""
    known, fetch = offers(options.what)
    names = dict.fromkeys(known if options.what == "inception" or options.names == ("all",) else options.names)
    for name in names:
        if name not in known:
            raise unknown_name(options.what.removesuffix("s"), name, known, ", or all")
    if options.list:
        print(table(["name", "file"], [[name, where] for name, where in known.items()]))
        return 0
    if not names:
        raise ValueError(f"say which {options.what}: {', '.join(known)}, or all; --list says where they come from")
    for name in names:
        print(f"{name}: {fetch(name, options.out)}")
    return 0


def offers(what: What) -> tuple[Mapping[str, str], Callable[[str, Path | None], Path]]:
    """Return the names that can be downloaded with where each comes from, and what fetches one of them."""
    if what == "datasets":
        from proxdm.data.known import DATASETS, download

        return {name: "by torchvision" for name, known in DATASETS.items() if known.download is not None}, download
    if what == "inception":
        from proxdm.metrics.inception import WEIGHTS_FILE, fetch_weights

        return {"inception": WEIGHTS_FILE}, lambda name, out: _placed(fetch_weights(), out)
    files = hub.OFFICIAL_MODELS if what == "models" else hub.OFFICIAL_STATS
    known = {name: f"{hub.OFFICIAL_REPO}/{file}" for name, file in files.items()}
    return known, lambda name, out: _placed(hub.fetch(hub.RepoId(hub.OFFICIAL_REPO), files[name]), out)


def _placed(path: Path, out: Path | None) -> Path:
    """Return the file, or its copy in the wanted folder."""
    if out is None:
        return path
    target = out / path.name
    if not target.exists():
        with replacing(target) as part:
            shutil.copyfile(path, part)
    elif not target.is_file() or not filecmp.cmp(path, target, shallow=False):
        raise OutputError(f"{target} is there already and is another one; move it away, or choose another --out")
    return target
