"""Presets by name: those of arXiv 2507.08956 (:mod:`.paper`), and ours for small machines (:mod:`.small`)."""

from __future__ import annotations

from proxdm.config import Config, ConfigError
from proxdm.errors import did_you_mean
from proxdm.presets import paper, small

PRESETS: tuple[str, ...] = (*small.ROWS, *paper.ROWS)
"""Every preset by name."""


def get_preset(name: str) -> Config:
    """Return the preset of that name.

    Raises:
        ConfigError: There is none; the message names the closest and lists all.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}{did_you_mean(name, PRESETS)}; the presets are {', '.join(PRESETS)}")
    return small.make(name) if name in small.ROWS else paper.make(name)
