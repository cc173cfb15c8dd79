"""Units as people write them → one spelling each, and what one is of another.

Only what holds for every substance is converted: mmol to mg is not, nor mmol to mEq where a charge is not 1.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final

_SIGNS: Final = str.maketrans({"º": "°", "˚": "°", "Â": "", "â": "", "[": "", "]": ""})
"""Look-alikes of the degree sign, what is left of a sign of two bytes read as Latin-1, and brackets of UCUM."""

_DEGREES: Final = re.compile(r"(?:degrees?|deg|°)?(?:(f)|(c)|(?:fahrenheit)|(celsius|centigrade))")
_POWER: Final = re.compile(r"x?10(?:\^|\*{1,2}|e|exp)?(3|6|9|12)/(ul|l)")
_POWERS: Final = {("3", "ul"): "k/ul", ("6", "ul"): "m/ul", ("9", "l"): "k/ul", ("12", "l"): "m/ul", ("6", "l"): "#/ul"}
_NO_UNIT: Final = ("", "none", "null", "n/a", "na", "nan", "unk", "unknown")
_WORDS: Final = {
    other: plain
    for plain, others in {
        "kg": "kgs kilo kilos kilogram kilograms",
        "g": "gm gms gram grams",
        "lb": "lbs pound pounds lb_av",
        "oz": "ounce ounces oz_av",
        "cm": "cms centimeter centimeters centimetre centimetres",
        "m": "meter meters metre metres",
        "inch": "in inches in_i",
        "ft": "foot feet",
        "ml": "mls cc milliliter milliliters millilitre millilitres",
        "l": "liter liters litre litres",
        "l/min": "lpm liter/min liters/min litre/min litres/min",
        "sec": "s secs second seconds",
        "mmhg": "torr",
        "%": "percent pct",
        "u/l": "iu/l unit/l units/l",
        "#/ul": "/ul cells/ul cell/ul",
        "k/ul": "thousand/ul thous/ul thou/ul th/ul",
        "m/ul": "million/ul mill/ul mil/ul",
    }.items()
    for other in others.split()
}

_CONVERSIONS: Final[Mapping[tuple[str, str], tuple[float, float]]] = {
    ("°f", "°c"): (5 / 9, -160 / 9),
    ("lb", "kg"): (0.45359237, 0.0),
    ("oz", "kg"): (0.028349523125, 0.0),
    ("g", "kg"): (0.001, 0.0),
    ("inch", "cm"): (2.54, 0.0),
    ("ft", "cm"): (30.48, 0.0),
    ("m", "cm"): (100.0, 0.0),
    ("g/l", "g/dl"): (0.1, 0.0),
    ("g/l", "mg/dl"): (100.0, 0.0),
    ("mg/l", "mg/dl"): (0.1, 0.0),
    ("mg/dl", "mg/l"): (10.0, 0.0),
    ("ug/ml", "mg/l"): (1.0, 0.0),
    ("ug/ml", "mg/dl"): (0.1, 0.0),
    ("ug/dl", "mg/dl"): (0.001, 0.0),
    ("ug/l", "ng/ml"): (1.0, 0.0),
    ("ug/ml", "ng/ml"): (1000.0, 0.0),
    ("ng/l", "ng/ml"): (0.001, 0.0),
    ("pg/ml", "ng/ml"): (0.001, 0.0),
    ("ng/l", "pg/ml"): (1.0, 0.0),
    ("ng/ml", "pg/ml"): (1000.0, 0.0),
    ("#/ul", "k/ul"): (0.001, 0.0),
    ("l", "ml"): (1000.0, 0.0),
    ("ml/min", "l/min"): (0.001, 0.0),
    ("kpa", "mmhg"): (7.500617, 0.0),
}
"""Unit found, unit wanted → factor, offset."""


@cache
def spelled(unit: str) -> str:
    """One spelling per unit; "" where none is named.

    >>> [spelled(u) for u in ("mm Hg", "Â°F", "deg. F", "ºF", "℉", "&#176;C", "Lbs", "N/A", "mcg/dL", "µg/dl")]
    ['mmhg', '°f', '°f', '°f', '°f', '°c', 'lb', '', 'ug/dl', 'ug/dl']
    >>> [spelled(u) for u in ("10^3/µL", "x10E9/L", "K/mcL", "MEQ / L", "mm[Hg]")]
    ['k/ul', 'k/ul', 'k/ul', 'meq/l', 'mmhg']
    """
    plain = unicodedata.normalize("NFKC", html.unescape(unit).translate(_SIGNS)).lower()
    plain = re.sub(r"\s|(?<=[a-z])\.", "", plain).replace("μ", "u")
    plain = re.sub(r"mm\^?3|cumm|mc(?=[lgu]|mol)", lambda found: "u" if found[0] == "mc" else "ul", plain)
    if plain in _NO_UNIT:
        return ""
    if degrees := _DEGREES.fullmatch(plain):
        return "°c" if degrees[2] or degrees[3] else "°f"
    if power := _POWER.fullmatch(plain):
        return _POWERS.get((power[1], power[2]), plain)
    return _WORDS.get(plain, plain)


def ways_to(unit: str, same: Iterable[str] = ()) -> dict[str, tuple[float, float]]:
    """Unit found, as ``spelled`` → factor and offset that make it ``unit``.

    Args:
        same: Other units that are the same of this substance.

    >>> ways_to("kg")["lb"]
    (0.45359237, 0.0)
    """
    target = spelled(unit)
    ways = {source: way for (source, to), way in _CONVERSIONS.items() if to == target}
    return ways | dict.fromkeys([target, *map(spelled, same)], (1.0, 0.0))
