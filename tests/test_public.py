"""What is public is said, exists, and says of itself what it is."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from typing import Any

import pytest

import mmnar
from mmnar.estimators.registry import defaults, known_names

NEEDED = {"Predictions", "Schema", "Result", "Model", "ModelCard", "PatientBatch", "train_run", "open_run"}
MODULES = (
    *("errors", "config", "schema", "types", "roles", "predictions", "cohort.split", "dataset.store"),
    *("estimators.base", "models.base", "posthoc", "evaluation", "workflow", "testing", "sklearn"),
)


def own(module: str) -> dict[str, Any]:
    """Public classes and functions of a module."""
    found = importlib.import_module(f"mmnar.{module}")
    things = {name: getattr(found, name) for name in found.__all__}
    return {f"{module}.{n}": t for n, t in things.items() if inspect.isclass(t) or inspect.isfunction(t)}


def test_dir_shows_the_public_names_alone() -> None:
    assert dir(mmnar) == sorted(mmnar.__all__)
    assert set(mmnar.__all__) >= NEEDED
    for name in mmnar.__all__:
        assert getattr(mmnar, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        mmnar.nonsense  # noqa: B018
    namespace: dict[str, Any] = {}
    exec("from mmnar import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(mmnar.__all__)


def test_names_are_imported_on_first_use() -> None:
    code = "import sys, mmnar; dir(mmnar); print({'torch', 'numpy', 'polars'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("module", MODULES)
def test_public_modules_name_what_is_there(module: str) -> None:
    found = importlib.import_module(f"mmnar.{module}")
    assert all(hasattr(found, name) for name in found.__all__)
    assert len(set(found.__all__)) == len(found.__all__)


def test_everything_public_begins_with_a_sentence() -> None:
    things: dict[str, Any] = {name: getattr(mmnar, name) for name in mmnar.__all__ if name != "__version__"}
    for module in MODULES:
        things |= own(module)
    things |= {f"settings of {name}": type(defaults(name)) for name in known_names()}
    for name, thing in things.items():
        said = (thing.__doc__ or "").strip()
        first = said.split("\n\n")[0]
        assert first, name
        assert not re.match(r"(Args|Raises|Returns|>>>)", first), name
        assert not first.startswith(f"{getattr(thing, '__name__', '')}("), (
            f"{name}: a dataclass's signature, no sentence"
        )
        assert first.rstrip().endswith((".", ":", "::")), name
