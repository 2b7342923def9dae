"""`proxdm report`: one self-contained HTML file on runs and their evaluations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from proxdm.metrics.registry import METRICS
from proxdm.runtime.files import check_folder, write_text


@dataclass(frozen=True)
class Report:
    """Write one HTML file that opens from disk and needs no network: figures, tables, samples, configurations.

    With a run come its results (in its folder, or in evaluations/NAME), and with results the runs that they name.
    """

    sources: Positional[tuple[str, ...]]  # Runs, or results (a results.jsonl, its folder, or a folder of such folders).
    out: Annotated[Path, arg(aliases=("-o",))] = Path("report.html")  # The file to write.
    title: str = ""  # Heading; by default the names of the runs.
    metrics: Annotated[
        tuple[str, ...], arg(help=f"Metrics to show: {', '.join(METRICS)}.", help_behavior_hint="(default: all)")
    ] = ()
    overwrite: bool = False  # Replace the file.


def run(options: Report, prog: str) -> int:
    """Run the verb and return the exit status."""
    if not options.sources:
        raise ValueError(f"there is nothing to report on: name runs or results; see {prog} --help")
    check_folder(options.out.parent, [options.out.name], overwrite=options.overwrite)
    from proxdm.report import gather, render

    material = gather(options.sources)
    page = render(material, title=options.title, metrics=options.metrics)
    write_text(options.out, page)
    for note in material.notes:
        print(note)
    size = len(page.encode()) / 2**20
    print(
        f"{options.out} ({size:.1f} MB; rows: {len(material.rows)}, runs: {len(material.runs)}): open it in a browser"
    )
    return 0
