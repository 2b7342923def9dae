"""Presets by name: those of arXiv 2507.08956 (:mod:`.paper`), and ours for small machines (:mod:`.small`).

An own one is a function that returns a configuration: `@PRESETS.register("my-preset")`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from proxdm.config import Config, ConfigError
from proxdm.presets import paper, small
from proxdm.runtime.registry import Registry

PRESETS: Registry[Callable[[], Config]] = Registry("preset")
"""Every preset by name."""

for _rows, _make in ((small.ROWS, small.make), (paper.ROWS, paper.make)):
    for _name in _rows:
        PRESETS.add(_name, partial(_make, _name))


def get_preset(name: str) -> Config:
    """Return the preset of that name."""
    try:
        make = PRESETS.find(name)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return make()
