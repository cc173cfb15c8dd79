"""The recipe of a store's inputs: what must be done to other records so that a model fitted on the store can read them.

It travels with the store and with every run. It holds rules, vocabularies and options; nothing of any patient, and no
place where records lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from mmnar.errors import SchemaError, StoreError
from mmnar.notes.encoder import TextEncoder
from mmnar.schema import Schema, Task
from mmnar.sources.events import Extract, FeatureRule, ImageRule, Rule, SeriesRule, TextRule, VectorRule

RECIPE_VERSION: Final = 1
HASHING: Final = "hashing"
"""Notes as counts of words, without a model."""
_RULES: Final[dict[str, type[Any]]] = {
    r.__name__: r for r in (FeatureRule, SeriesRule, TextRule, VectorRule, ImageRule)
}
_PLACED: Final[dict[type[Any], str]] = {VectorRule: "vectors (--embeddings)", ImageRule: "images"}
_PLACES: Final = ("array", "root")
"""Fields of a rule that say where records lie."""


@dataclass(frozen=True)
class Recipe:
    """How inputs are made of records.

    Args:
        door: Which verb of ``mmnar prepare`` read them.
        options: Of that door, as resolved; plain JSON.
        rules: Events → features, with vocabularies, units and plausible ranges.
        schema: What they make.
        max_missing: Modality presence rule.
        bin_hours: Of series.
        notes: Name of the notes' encoder, or ``hashing``.
        notes_identity: Changes whenever a vector of it could change.
    """

    door: str
    options: dict[str, Any]
    rules: tuple[Rule, ...]
    schema: Schema
    max_missing: float
    bin_hours: float = 0.0
    notes: str = HASHING
    notes_identity: str = HASHING

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without places."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("rules", "schema")}
        rules = [{"kind": type(rule).__name__, **_without_places(rule)} for rule in self.rules]
        return {"recipe_version": RECIPE_VERSION, **plain, "rules": rules, "schema": self.schema.to_dict()}

    @classmethod
    def from_dict(cls, raw: Any, whose: str) -> Recipe:
        """The inverse of ``to_dict``.

        Args:
            whose: For messages.

        Raises:
            StoreError: It was written by another version, or is no recipe.
        """
        try:
            version = raw["recipe_version"]
            if version == RECIPE_VERSION:
                own = {f.name: raw[f.name] for f in fields(cls) if f.name not in ("rules", "schema")}
                rules = tuple(_rule(rule) for rule in raw["rules"])
                return cls(rules=rules, schema=Schema.from_dict(raw["schema"]), **own)
        except (KeyError, TypeError, AttributeError, SchemaError):
            version = "something else"
        expected = f"a recipe of version {RECIPE_VERSION}"
        raise StoreError(whose, expected, f"{version}", "prepare the store and train again with this version")

    @property
    def tasks(self) -> tuple[Task, ...]:
        return self.schema.tasks

    def check_encoder(self, encoder: TextEncoder | None) -> None:
        """
        Raises:
            SchemaError: It is not the encoder that the recipe's notes went through.
        """
        if _identity(encoder) != self.notes_identity:
            raise SchemaError(
                f"notes encoder '{self.notes}'",
                "the model that the run's notes went through",
                "another one of that name (other weights, tokenizer or cleaning)",
                "give the folder of the one that was used",
            )

    def follow(self, extract: Extract, work: Path) -> Extract:
        """What was read, to be gathered by this recipe's rules: features that the records lack are there and missing.

        Args:
            work: Where an empty array may be put, for vectors that the records do not have.

        Raises:
            SchemaError: A feature has another unit in these records, or a modality is of another kind.
        """
        self._check_kinds(extract)
        theirs = {(r.modality, r.feature): r for r in extract.rules if isinstance(r, (FeatureRule, SeriesRule))}
        ours = {(r.modality, r.feature): r for r in self.rules if isinstance(r, (FeatureRule, SeriesRule))}
        for key, rule in ours.items():
            there = theirs.get(key)
            if there is not None and there.unit and rule.unit and there.unit != rule.unit:
                what = f"feature '{key[1]}' of modality '{key[0]}'"
                raise SchemaError(what, f"the unit of the run, {rule.unit}", there.unit, "convert it before")
        placed = {r.modality: r for r in extract.rules if isinstance(r, (VectorRule, ImageRule))}
        rules = tuple(_placed(rule, placed.get(rule.modality), work) for rule in self.rules)
        extra = [key for key in theirs if key not in ours]
        notes = (f"{len(extra)} features that the run does not know: not used",) if extra else ()
        unknown = [name for name in self.schema.attributes if name not in extract.stays.columns]
        stays = extract.stays.with_columns(pl.lit(None, pl.String).alias(name) for name in unknown)
        return replace(
            extract,
            stays=stays,
            rules=rules,
            attributes=self.schema.attributes,
            max_missing=self.max_missing,
            warnings=(*extract.warnings, *notes),
        )

    def _check_kinds(self, extract: Extract) -> None:
        theirs = {rule.modality: type(rule) for rule in extract.rules if type(rule) in _PLACED}
        for rule in self.rules:
            there = theirs.get(rule.modality, type(rule))
            if type(rule) in _PLACED and there is not type(rule):
                what, wanted = f"modality '{rule.modality}'", f"{_PLACED[type(rule)]}, as the run's"
                raise SchemaError(what, wanted, _PLACED[there], "give the records that the run was given")


def recipe_of(
    door: str,
    options: Mapping[str, Any],
    extract: Extract,
    schema: Schema,
    *,
    bin_hours: float = 0.0,
    notes: str = HASHING,
    encoder: TextEncoder | None = None,
) -> Recipe:
    """The recipe by which a store was made."""
    identity = _identity(encoder)
    return Recipe(door, dict(options), extract.rules, schema, extract.max_missing, bin_hours, notes, identity)


def _identity(encoder: TextEncoder | None) -> str:
    return HASHING if encoder is None else encoder.identity


def _without_places(rule: Rule) -> dict[str, Any]:
    return {name: value for name, value in asdict(rule).items() if name not in _PLACES}


def _rule(raw: Mapping[str, Any]) -> Rule:
    kind = _RULES[raw["kind"]]
    own = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items() if k != "kind"}
    place: dict[str, Any] = {f.name: Path() for f in fields(kind) if f.name in _PLACES}
    rule: Rule = kind(**own, **place)
    return rule


def _placed(rule: Rule, there: Rule | None, work: Path) -> Rule:
    """A rule of vectors or images, at the place where these records have them.

    Raises:
        SchemaError: Vectors of another width.
    """
    if isinstance(rule, ImageRule):
        return replace(rule, root=there.root if isinstance(there, ImageRule) else work)
    if not isinstance(rule, VectorRule):
        return rule
    if not isinstance(there, VectorRule):
        work.mkdir(parents=True, exist_ok=True)
        nothing = work / f"no-{rule.modality}.npy"
        np.save(nothing, np.zeros((1, rule.width), dtype=np.float32), allow_pickle=False)
        return replace(rule, array=nothing)
    if there.width != rule.width:
        what = f"vectors of modality '{rule.modality}'"
        raise SchemaError(what, f"{rule.width} numbers, as the run's", f"{there.width}", "give the same embeddings")
    return replace(rule, array=there.array)
