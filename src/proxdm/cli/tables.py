"""Tables on the terminal: aligned plain text."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with the first column aligned left and the others right, a rule under the header."""
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row of the table has {len(row)} cells, but its header has {len(header)}: {list(row)}")
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]

    def render(line: Sequence[str]) -> str:
        others = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        return "  ".join([line[0].ljust(widths[0]), *others]).rstrip()

    return "\n".join([render(header), "─" * (sum(widths) + 2 * (len(widths) - 1)), *map(render, rows)])
