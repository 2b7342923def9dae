"""Reports: one self-contained HTML file on runs and their evaluations, from the templates in `templates`."""

from __future__ import annotations

from proxdm.report.gather import gather
from proxdm.report.page import Section, demo_page, render

__all__ = ["Section", "demo_page", "gather", "render"]
