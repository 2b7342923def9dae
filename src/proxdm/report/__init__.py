"""Reports: one self-contained HTML file on runs and their evaluations, from templates in `report/page`."""

from __future__ import annotations

from proxdm.report.gather import Material, gather
from proxdm.report.page import render

__all__ = ["Material", "gather", "render"]
