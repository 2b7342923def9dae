"""The house: layers import downwards only, and importing the package stays cheap."""

from __future__ import annotations

import ast
import graphlib
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import proxdm
from proxdm.runtime.hooks import HOOKS, hook

PACKAGE = Path(proxdm.__file__).parent

# From the ground up. A module may import those of lines above its own, and those of its own line.
LAYERS = [
    ["_version", "errors"],
    ["runtime"],
    ["schedules"],
    ["pixels", "grids", "noise", "operators"],
    ["priors"],
    ["samplers"],
    ["sweep"],
    ["_modes"],
    ["mixtures"],
    ["networks"],
    ["models"],
    ["losses", "conditioning"],
    ["data"],
    ["config", "presets"],
    ["checkpoints"],
    ["imaging"],
    ["generation"],
    ["fitting"],
    ["describe"],
    ["publishing"],
    ["training"],
    ["metrics"],
    ["evaluation"],
    ["experiments"],
    ["plotting"],
    ["report"],
    ["integrations"],
    ["cli"],
    ["__init__", "__main__"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


BY_NAME = ("import_module", "resolve_name", "__import__")


def layer(path: Path) -> str:
    """The layer a file belongs to: the first part of its path inside the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    """The modules of the package that a file imports, `proxdm.samplers.base`, in functions and by their names, too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import on line {node.lineno}"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(BY_NAME):
            names |= {str(one.value).replace(":", ".") for one in node.args if isinstance(one, ast.Constant)}
    found = set()
    for name in names:
        parts = name.split(".")
        # The longest part of the name that is a module: the rest is something in it.
        for count in range(len(parts), 1, -1):
            place = PACKAGE.parent.joinpath(*parts[:count])
            if parts[0] == "proxdm" and (place.with_suffix(".py").exists() or (place / "__init__.py").exists()):
                found.add(".".join(parts[:count]))
                break
    return found


def test_every_module_has_a_layer():
    unknown = sorted({layer(path) for path in PACKAGE.rglob("*.py")} - set(RANK))
    assert not unknown, f"give {unknown} a place in LAYERS"


def test_layers_import_downwards_only():
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name in sorted(imported_modules(path))
        if RANK[name.split(".")[1]] > RANK[layer(path)]
    ]
    assert not wrong


def test_there_are_no_circles_of_modules():
    graph = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        if name != "proxdm":  # it says where things are, for users, type checkers and hooks
            graph[name] = imported_modules(path) - {name}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_every_hook_is_a_function():
    for name in HOOKS:
        assert callable(hook(name))


def test_the_parser_sees_imports(tmp_path):
    (tmp_path / "a.py").write_text("import_module('proxdm.cli.train'); resolve_name('proxdm.publishing:push')")
    assert imported_modules(tmp_path / "a.py") == {"proxdm.cli.train", "proxdm.publishing"}
    assert {"proxdm.grids", "proxdm.noise", "proxdm.errors"} <= imported_modules(PACKAGE / "samplers" / "base.py")


HEAVY = ["scipy", "sklearn", "ot", "matplotlib", "torchvision", "accelerate", "diffusers", "huggingface_hub", "tyro",
         "PIL", "pandas"]  # fmt: skip
LOADED_MODULES = f"""
import sys, torch
before = set(sys.modules)
import proxdm, proxdm.data, proxdm.data.latents
proxdm.sample, proxdm.GaussianMixture, proxdm.ProxModel, proxdm.load
print([name for name in {HEAVY} if name in sys.modules and name not in before])
"""


def test_importing_the_package_imports_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", LOADED_MODULES], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_where_it_is_said_to_be():
    assert set(proxdm.__all__) == set(proxdm._HOME) | {"__version__"}
    assert set(proxdm.__all__) <= set(dir(proxdm))
    for name, home in proxdm._HOME.items():
        assert getattr(proxdm, name) is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match="has no attribute 'Painter'"):
        _ = proxdm.Painter


def test_help_does_not_wait_for_torch():
    code = "import sys; from proxdm.cli import main; main(['--help']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
