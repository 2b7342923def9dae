"""What verbs show and write: tables of aligned plain text, results and figures in a folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from proxdm.runtime.files import staged


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with the first column aligned left and the others right, a rule under the header."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def render(line: Sequence[str]) -> str:
        others = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        return "  ".join([line[0].ljust(widths[0]), *others]).rstrip()

    return "\n".join([render(header), "─" * (sum(widths) + 2 * (len(widths) - 1)), *map(render, rows)])


def write_and_show(
    record: Mapping[str, Any],
    draw: Callable[[Path], None],
    folder: Path,
    names: Sequence[str],
    report: Callable[[], str],
) -> None:
    """Write a record and what is drawn into the folder, all at once; then show the report, even if that failed.

    The first of `names` is that of the record. Figures that are not drawn this time are removed, as they would show an
    earlier run.
    """
    if sys.stderr.isatty():
        print("drawing ...", end="\r", file=sys.stderr, flush=True)
    try:
        with staged(folder, last=names[0]) as stage:
            (stage / names[0]).write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
            draw(stage)
            made = [name for name in names if (stage / name).exists()]
        for name in set(names) - set(made):
            (folder / name).unlink(missing_ok=True)
    finally:
        print(report())
    print(f"\nIn {folder}: {', '.join(made)}")
