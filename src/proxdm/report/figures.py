"""Figures and pictures that stand inside a page: SVG whose colours follow the page, PNG and JPEG as data URIs."""

from __future__ import annotations

import base64
import io
import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from proxdm.plotting.curves import PHASES
from proxdm.plotting.style import PROX_COLOURS, RC, SCORE_COLOURS, Style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = {"#000000": "ink", "#333333": "ink", "#555555": "muted", "#9a9a9a": "muted", "#e6e6e6": "grid", "#ffffff": "card"}
"""Colours of figures that are not of curves, and the variable of the page that each becomes."""

DARK: dict[str, str] = dict(
    zip(
        (*SCORE_COLOURS, *PROX_COLOURS, *PHASES),
        (
            *("#a9cdf7", "#62a8ec", "#3f86cf", "#3cc9ae", "#9dadde"),
            *("#ff8b45", "#e3b7a3", "#ffc950", "#f286bd", "#cdb25a"),
            *("#d6d6d6", "#e6a65c", "#b69be6", "#5cc79b"),
        ),
        strict=True,
    )
)
"""What the colours of curves become on a dark page."""

MOST_BYTES = 600_000
"""A picture of more is scaled down and compressed."""

MOST_SIDE = 1024
"""Longer side of a picture that is scaled down, in pixels."""

_MARKERS = {
    "o": '<circle cx="18" cy="7" r="3.4"/>',
    "s": '<path d="M14.8 3.8h6.4v6.4h-6.4z"/>',
    "^": '<path d="M18 3l4 7.2h-8z"/>',
    "D": '<path d="M18 2.6L22.4 7 18 11.4 13.6 7z"/>',
    "v": '<path d="M18 11l4-7.2h-8z"/>',
}


def variable(colour: str) -> str:
    """Return how a colour of a figure is written in the page: as a variable, where it has one."""
    colour = colour.lower()
    if colour in INK:
        return f"var(--{INK[colour]})"
    return f"var(--c{colour[1:]})" if colour in DARK else colour


def inline_svg(figure: Figure, prefix: str, title: str) -> str:
    """Return a figure as an `<svg>` element to stand in HTML: its texts are text, its colours those of the page."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({**RC, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    found = buffer.getvalue()
    svg = found[found.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>|\s*<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    box = re.search(r'viewBox="([\d. ]+)"', svg)
    assert box is not None
    start = f'<svg class="chart" viewBox="{box[1]}" role="img" aria-label="{escape(title)}">'
    svg = start + svg[svg.index(">") + 1 :].rstrip()
    # Only tags are changed: a text may hold anything.
    return re.sub(r"<[^>]*>", lambda tag: _tag(tag[0], prefix), svg.replace("&quot;", "&#34;"))


def swatch(style: Style) -> str:
    """Return a small `<svg>` of the line and the marker of a curve, for legends."""
    colour, face = variable(style.colour), variable("#ffffff" if style.face == "white" else style.face)
    dash = ' stroke-dasharray="5 3"' if style.line == "--" else ""
    return (
        f'<svg class="swatch" viewBox="0 0 36 14" aria-hidden="true" style="stroke:{colour}">'
        f'<path d="M1 7H35"{dash} stroke-width="2"/><g style="fill:{face}" stroke-width="1.5">{_MARKERS[style.marker]}'
        "</g></svg>"
    )


def picture_uri(path: Path) -> str:
    """Return a picture as a data URI: as it is, or scaled down and compressed if it is large."""
    from PIL import Image

    content = path.read_bytes()
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            if picture.format == "PNG" and len(content) <= MOST_BYTES:
                return _uri("png", content)
            small = picture.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(f"{path.name} is no picture that can be read") from error
    small.thumbnail((MOST_SIDE, MOST_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=88)
    return _uri("jpeg", buffer.getvalue())


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _tag(tag: str, prefix: str) -> str:
    """Return a tag of matplotlib's SVG as it stands in a page."""
    if tag.startswith("<g"):
        tag = re.sub(r' id="[^"]*"', "", tag)
    tag = re.sub(r' id="', f' id="{prefix}-', tag)
    tag = re.sub(r'(?:xlink:)?href="#', f'href="#{prefix}-', tag)
    tag = tag.replace("url(#", f"url(#{prefix}-").replace("font-family: 'DejaVu Sans'; ", "")
    tag = re.sub(r"(?P<before>font: [^;']*)'DejaVu Sans'", r"\g<before>inherit", tag)
    return re.sub(r"#[0-9a-fA-F]{6}\b", lambda colour: variable(colour[0]), tag)
