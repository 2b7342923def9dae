"""The thirteen Datasaurus sets: 142 points in the plane each, equal means, deviations and correlation.

The dinosaur is Alberto Cairo's Datasaurus (2016); the other twelve were made from it by Justin Matejka and George
Fitzmaurice, "Same Stats, Different Graphs: Generating Datasets with Varied Appearance and Identical Statistics
through Simulated Annealing" (CHI 2017, doi:10.1145/3025453.3025912). Where the numbers were taken from, and under
which licences they are published, stands in `files/README.md` beside the data.

The points lie in [0, 100]^2; `load` scales them to `(point - 50) / 50`, in [-1, 1]^2, the synthetic experiment's
coordinates (arXiv 2507.08956).
"""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from proxdm.errors import unknown_name

POINTS = 142
"""Number of points of every set."""

NAMES: tuple[str, ...] = (
    "dino", "away", "h_lines", "v_lines", "x_shape", "star", "high_lines", "dots", "circle", "bullseye", "slant_up",
    "slant_down", "wide_lines",
)  # fmt: skip
"""The thirteen sets, in the order of the file."""


def load(name: str) -> NDArray[np.float64]:
    """Return the points of one of :data:`NAMES`, `(point - 50) / 50`: a fresh float64 array `(142, 2)` in [-1, 1]^2."""
    if name not in NAMES:
        raise unknown_name("Datasaurus set", name, NAMES)
    return (_raw()[name] - 50.0) / 50.0


@cache
def _raw() -> dict[str, NDArray[np.float64]]:
    """Return every set as published, in [0, 100]."""
    with resources.files("proxdm.data").joinpath("files", "datasaurus.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return {name: np.array([row[1:] for row in rows if row[0] == name], dtype=np.float64) for name in NAMES}
