"""YAML read strictly: a key given twice, left over or of the wrong form is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import yaml

from mmnar.errors import ConfigError, nearest

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


class StrictLoader(yaml.SafeLoader):
    """A SafeLoader that refuses a key given twice, which YAML itself would silently overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            word = str(key.value)
            if word in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key '{word}' twice", key.start_mark)
            seen.add(word)
        return super().construct_mapping(node, deep)


class Keys:
    """A mapping whose keys are taken one by one; what is left over is unknown."""

    def __init__(self, raw: Any, where: str) -> None:
        if not isinstance(raw, dict):
            raise ConfigError(f"'{where}'", "key: value lines", f"a {type(raw).__name__}", "see docs/own-tables.md")
        self._raw: dict[Any, Any] = dict(raw)
        self._where = where
        self._known: list[str] = []

    def take(self, key: str, default: Any = None) -> Any:
        self._known.append(key)
        value = self._raw.pop(key, default)
        if value is None:
            raise ConfigError(f"'{self._where}'", f"the key '{key}'", "none", "see docs/own-tables.md")
        return value

    def word(self, key: str, default: str | None = None) -> str:
        return word(self.take(key, default), f"{self._where}.{key}")

    def words(self, key: str, default: Iterable[str] | None = None) -> tuple[str, ...]:
        return words(self.take(key, default), f"{self._where}.{key}")

    def listed(self, key: str) -> list[Any]:
        raw = self.take(key, [])
        if not isinstance(raw, list):
            raise ConfigError(f"'{self._where}.{key}'", "a list", f"a {type(raw).__name__}", "begin each line with '-'")
        return raw

    def mapping(self, key: str, *default: Mapping[Any, Any]) -> Mapping[Any, Any]:
        raw = self.take(key, *default)
        if not isinstance(raw, dict):
            raise ConfigError(f"'{self._where}.{key}'", "name: … lines", f"a {type(raw).__name__}", "name each of them")
        return raw

    def flag(self, key: str) -> bool:
        raw = self.take(key, False)
        if not isinstance(raw, bool):
            raise ConfigError(f"'{self._where}.{key}'", "true or false", f"a {type(raw).__name__}", "correct it")
        return raw

    def number(self, key: str, default: float, low: float, high: float = float("inf")) -> float:
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ConfigError(f"'{self._where}.{key}'", f"a number from {low} to {high}", repr(value), "correct it")
        return value

    def optional_number(self, key: str) -> float | None:
        if key in self._raw:
            return self.number(key, 0.0, float("-inf"))
        self._known.append(key)
        return None

    def finish(self) -> None:
        for key in self._raw:
            raise ConfigError(f"'{self._where}'", "known keys", f"the key '{key}'", nearest(str(key), set(self._known)))


def word(raw: Any, where: str) -> str:
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        fact = (
            f"{str(raw).lower()} (YAML reads yes, no, on and off so)" if isinstance(raw, bool) else type(raw).__name__
        )
        raise ConfigError(f"'{where}'", "a word or number", fact, "put it in quotes")
    return str(raw)


def words(raw: Any, where: str) -> tuple[str, ...]:
    items = raw if isinstance(raw, list | tuple) else [raw]
    return tuple(word(item, where) for item in items)


def named(raw: Any, where: str) -> str:
    """A name that is also fit for a file."""
    name = word(raw, where)
    if not _NAME.fullmatch(name):
        raise ConfigError(f"'{where}'", "names of letters, digits, _ and -, a letter first", repr(name), "rename it")
    return name
