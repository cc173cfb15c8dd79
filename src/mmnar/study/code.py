"""Which code a run's numbers come from: a fingerprint that comments and unrelated files leave alone."""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import mmnar

_ROOT: Final = Path(mmnar.__file__).parent
_ALWAYS: Final = (
    "mmnar.dataset.regimes",
    "mmnar.estimators.cross",
    "mmnar.posthoc.rectify",
    "mmnar.posthoc.platt",
)
"""What every run passes through besides its method's own module."""

_DEEP: Final = ("mmnar.estimators.fusion",)
"""What runs of networks pass through: the training loop."""

_LISTS: Final = ("mmnar.models.registry",)
"""Mere lists of names: a new method changes nothing for the others."""


@lru_cache(maxsize=1024)
def code_fingerprint(*targets: str) -> str:
    """Hash of every module of this package that the numbers of ``targets`` can depend on, 12 hex digits.

    Modules are followed from import to import, in this package and, from a method of another one, in that. Comments,
    docstrings, layout and other methods' files do not count.

    Args:
        targets: ``"module"`` or ``"module:attribute"`` of a method, or of each member of a stack.

    >>> code_fingerprint("mmnar.models.zero_fill:ZeroFill") != code_fingerprint("mmnar.models.crl_mmnar:CRLMMNAR")
    True
    """
    digest = hashlib.sha256()
    modules = [target.split(":")[0] for target in targets]
    deep = _DEEP if any(module.startswith("mmnar.models.") or _top(module) != "mmnar" for module in modules) else ()
    for name in sorted(reached((*modules, *_ALWAYS, *deep))):
        digest.update(f"{name}\n{_meaning(name)}\n".encode())
    return digest.hexdigest()[:12]


def reached(roots: tuple[str, ...]) -> set[str]:
    """The modules of this package, and of the roots' own, that these import, directly or not, themselves included."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found and name not in _LISTS and _file(name):
            found.add(name)
            waiting += _imports(name)
    return found


@lru_cache(maxsize=1024)
def _imports(name: str) -> tuple[str, ...]:
    """Modules of this package, or of its own, that a module imports anywhere in it."""
    names: list[str] = []
    for node in ast.walk(_tree(name)):
        if isinstance(node, ast.ImportFrom):
            module = _absolute(name, node)
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return tuple(n for n in names if n != "mmnar" and _top(n) in ("mmnar", _top(name)))


def _absolute(name: str, node: ast.ImportFrom) -> str:
    """What ``from … import`` names in module ``name``."""
    if not node.level:
        return node.module or ""
    file = _file(name)
    package = name.split(".") if file is not None and file.name == "__init__.py" else name.split(".")[:-1]
    above = package[: len(package) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def _top(name: str) -> str:
    return name.split(".")[0]


@lru_cache(maxsize=1024)
def _meaning(name: str) -> str:
    """A module as its syntax tree, without docstrings and positions."""
    tree = _tree(name)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return ast.dump(tree)


def _tree(name: str) -> ast.Module:
    file = _file(name)
    assert file is not None
    return ast.parse(file.read_text(encoding="utf-8"))


def _file(name: str) -> Path | None:
    """Where a module lies, or None if there is none of that name."""
    if _top(name) != "mmnar":
        return _file_elsewhere(name)
    path = _ROOT.joinpath(*name.split(".")[1:])
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def _file_elsewhere(name: str) -> Path | None:
    try:
        found = find_spec(name)
    except ModuleNotFoundError:  # a name in a module is none
        return None
    file = Path(found.origin) if found and found.origin else None
    return file if file is not None and file.suffix == ".py" else None
