"""`proxdm fid`: the distance of two sets of pictures."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from proxdm.cli.tables import table
from proxdm.evaluation import ComparisonPlan, SetComparison, compare_sets
from proxdm.metrics.registry import title_of
from proxdm.runtime.files import check_folder, write_text


@dataclass(frozen=True, kw_only=True)
class Fid(ComparisonPlan):
    """Compare two sets of pictures: the Fréchet distance (FID), and other metrics.

    proxdm fid samples/ real.zip; proxdm fid samples/ statistics.npz --metrics fid; statistics: proxdm stats.
    """

    # The samples: a folder, archive or array of pictures, a known data set, or statistics (.npz).
    first: Annotated[Positional[str], arg(metavar="A")]
    second: Annotated[Positional[str], arg(metavar="B")]  # What to compare them with: the same.
    out: Annotated[Path | None, arg(aliases=("-o",))] = None  # Also write the values to this .json file.
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps.
    overwrite: bool = False  # Replace what is there.


def report(found: SetComparison, first: str, second: str) -> str:
    """Return the values as a table, under what was compared."""
    counts = ["statistics" if count is None else f"{count:,} pictures" for count in found.counts]
    rows = [[title_of(name, found.features), f"{value:.6g}"] for name, value in found.values.items()]
    title = f"{first} ({counts[0]}) against {second} ({counts[1]}), {found.features} features:"
    return f"{title}\n\n{table(['metric', 'value'], rows)}"


def run(options: Fid, prog: str) -> int:
    """Run the verb and return the exit status."""
    if options.out is not None:
        check_folder(options.out.parent, [options.out.name], overwrite=options.overwrite)
    found = compare_sets(options.first, options.second, options, device=options.device, progress=True)
    print(report(found, options.first, options.second))
    if options.out is not None:
        record = {"a": options.first, "b": options.second, **asdict(found)}
        write_text(options.out, json.dumps(record, indent=2) + "\n")
    return 0
