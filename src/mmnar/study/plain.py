"""What a study file's values may be: each is checked for its form, or refused with its key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from mmnar.errors import ConfigError, nearest


def known(what: str, raw: Any, keys: Sequence[str]) -> None:
    for key in mapping(what, raw):
        if key not in keys:
            raise ConfigError(f"{what}: key '{key}'", "a known key", "an unknown one", nearest(str(key), keys))


def one_of(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"{what}: '{name}'", "a known name", "an unknown one", nearest(str(name), known))


def whole(what: str, value: Any, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**31:
        raise ConfigError(what, f"a whole number ≥ {least}", kind(value), "correct the study")
    return value


def mapping(what: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigError(what, "keys and values", kind(value), "see `mmnar study table1 --show`")
    return value


def parts(what: str, value: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """(name, keys and values) of each part; numbers and dates may be names, as in YAML they look alike."""
    named = {} if value is None else value
    if not isinstance(named, Mapping):
        raise ConfigError(what, "names, each with keys and values", kind(value), "see `mmnar study table1 --show`")
    return [(str(name), mapping(f"{what}.{name}", of if of is not None else {})) for name, of in named.items()]


def settings(what: str, value: Any) -> Mapping[str, Any]:
    """Keys with plain values, or lists of them."""
    settings = mapping(what, value if value is not None else {})
    for key, of in settings.items():
        plain = of if isinstance(of, list) else [of]
        if not all(isinstance(v, (str, int, float, date)) for v in plain):
            raise ConfigError(f"{what}.{key}", "a value, or a list of values", kind(of), "correct the study")
    return settings


def a_list(what: str, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(what, "a list", kind(value), "correct the study")
    return list(value)


def words(what: str, value: Any) -> tuple[str, ...]:
    return tuple(word(what, one) for one in a_list(what, value))


def word(what: str, value: Any) -> str:
    if not isinstance(value, (str, int, float, date)) or isinstance(value, bool):
        raise ConfigError(what, "a word", kind(value), "correct the study")
    return str(value)


def flag(what: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(what, "true or false", kind(value), "correct the study")
    return value


def kind(value: Any) -> str:
    """A value, or what it is where it would fill the line."""
    if isinstance(value, (Mapping, list)):
        return "keys and values" if isinstance(value, Mapping) else f"a list of {len(value)}"
    return "nothing" if value is None else repr(value)[:60]
