"""The page of `proxdm demo`: figures inside, nothing from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proxdm._version import __version__


@dataclass(frozen=True)
class Section:
    """A heading, a sentence, a figure and the command that made it."""

    title: str
    text: str
    figure: Path  # A .png file
    command: str
    table: str = ""  # Preformatted


def demo_page(sections: Sequence[Section]) -> str:
    """Return the HTML page of some sections."""
    from jinja2 import Environment, PackageLoader

    pages = Environment(loader=PackageLoader("proxdm.report"), autoescape=True)
    pictures = {one.title: b64encode(one.figure.read_bytes()).decode() for one in sections}
    template = pages.get_template("demo.html.j2")
    return template.render(sections=sections, pictures=pictures, version=__version__)
