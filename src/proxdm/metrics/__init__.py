"""Metrics of samples, one file each, and what they are taken on: features and their statistics.

Every module of this package is imported with it, so that a file is all that a new metric needs
(:mod:`proxdm.metrics.registry`).
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
