"""Functions of upper layers that lower ones hand on to, as `module:function` by name: the package says which they are.

The package is imported before any of its modules, so that they are known everywhere; nothing else is imported here, for
`import proxdm` is to stay quick.
"""

from __future__ import annotations

from typing import Any

HOOKS: dict[str, str] = {}


def hook(name: str) -> Any:
    """Return a function of :data:`HOOKS`, whose module is imported when it is first asked for."""
    from pkgutil import resolve_name

    return resolve_name(HOOKS[name])
