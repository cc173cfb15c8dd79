"""Events: one long table of what happened to patients, and when it was known.

Columns are those of MEDS 0.4 plus ours. There are two doors out: ``before`` (what may be an input) and
``after`` (what may become a label). A featurizer takes ``PastEvents``, a labeller ``FutureEvents``;
neither type can be made in another way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import polars as pl

from mmnar.errors import LeakageError, SchemaError

EVENT_SCHEMA: Final[dict[str, pl.DataType]] = {
    "subject_id": pl.Int64(),
    "hadm_id": pl.Int64(),
    "stay_id": pl.Int64(),
    "time": pl.Datetime("us"),
    "available_time": pl.Datetime("us"),
    "code": pl.String(),
    "numeric_value": pl.Float32(),
    "text_value": pl.String(),
    "source": pl.String(),
}
"""``time``: when it happened. ``available_time``: when the ward could have known it. ``code``: what.
``source``: the raw table it came from."""

_DOOR = object()  # held by Events.before / Events.after alone

Derivation = Callable[[pl.DataFrame], pl.DataFrame]
"""Rows known at prediction time (as in ``PastEvents``) → further rows of the same columns, made of these alone."""


Scope = Literal["stay", "subject"]
"""Whose events a sample may read: those of its unit stay, or all of its subject's (since ``since``)."""


class EventSource(Protocol):
    """Events in memory (``Events``) or in shards on disk (``EventFolder``): read part by part, one part in memory."""

    def parts(self, samples: pl.DataFrame) -> Iterator[tuple[Events, pl.DataFrame]]:
        """Events with the samples they belong to.

        Each sample is in exactly one part; a sample's events are all in its part; parts follow the order of the
        samples, which is by ``subject_id``.
        """
        ...


@dataclass(frozen=True)
class Events:
    """A validated event table.

    Args:
        frame: Columns and dtypes of ``EVENT_SCHEMA``, in that order. ``subject_id``, ``time``, ``available_time``,
            ``code`` and ``source`` are never null, nor is ``stay_id`` where ``scope`` is ``"stay"``;
            ``available_time`` is never before ``time`` unless the code's availability rule says so, which the source
            must have applied already.
        scope: Whose events a sample may read.
        derive: What is computed of several events, of those known at prediction time: computed before, a sum would
            tell of a row that was entered after the question.

    Raises:
        SchemaError: A column is missing, has another dtype, or holds a null where none may be.
    """

    frame: pl.DataFrame
    scope: Scope = "stay"
    derive: Derivation | None = None

    def __post_init__(self) -> None:
        got = dict(self.frame.schema)
        if got != EVENT_SCHEMA:
            wrong = {c: str(got.get(c)) for c in EVENT_SCHEMA if got.get(c) != EVENT_SCHEMA[c]}
            raise SchemaError("events", f"columns {list(EVENT_SCHEMA)}", f"differing {wrong}", "cast in the source")
        needed = ["subject_id", "time", "available_time", "code", "source"]
        for column in [*needed, "stay_id"] if self.scope == "stay" else needed:
            nulls = self.frame[column].null_count()
            if nulls:
                raise SchemaError(f"events.{column}", "no null", f"{nulls} nulls", "drop and count them in the source")

    def parts(self, samples: pl.DataFrame) -> Iterator[tuple[Events, pl.DataFrame]]:
        """One part: everything."""
        yield self, samples

    def before(self, samples: pl.DataFrame) -> PastEvents:
        """Events that were *available* at or before each sample's prediction time.

        Args:
            samples: ``sample`` (int64, the row number), ``subject_id``, ``stay_id``, ``prediction_time`` and
                ``since`` (datetime[us], the begin of the record that counts as this stay's; null = all of it).

        Returns:
            The events of the sample's stay or subject (``scope``) with ``sample``, ``prediction_time`` and
            ``recent``: whether the event happened at or after ``since``.
        """
        key = "stay_id" if self.scope == "stay" else "subject_id"
        keys = samples.select("sample", key, "prediction_time", "since")
        frame = (
            self.frame.join(keys, on=key, how="inner")
            .filter(pl.col("available_time") <= pl.col("prediction_time"))
            .with_columns(recent=(pl.col("time") >= pl.col("since")).fill_null(True))
            .drop("since")
        )
        if self.derive is not None:
            frame = pl.concat([frame, self.derive(frame)])
        return PastEvents(frame, samples["sample"], _door=_DOOR)

    def after(self, samples: pl.DataFrame) -> FutureEvents:
        """Events of each sample's *subject* that happened after its prediction time, for labels only.

        Args:
            samples: ``sample``, ``subject_id``, ``hadm_id``, ``stay_id``, ``prediction_time``.

        Returns:
            The events with the sample's own ids as ``index_hadm_id`` and ``index_stay_id``.
        """
        keys = samples.select(
            "sample",
            "subject_id",
            "prediction_time",
            index_hadm_id="hadm_id",
            index_stay_id="stay_id",
        )
        frame = self.frame.join(keys, on="subject_id", how="inner").filter(pl.col("time") > pl.col("prediction_time"))
        return FutureEvents(frame, samples["sample"], _door=_DOOR)


@dataclass(frozen=True)
class Deriving:
    """An event source whose inputs have further events, computed of those known at prediction time.

    Args:
        source: Where the events are.
        derive: See ``Events``.
    """

    source: EventSource
    derive: Derivation

    def parts(self, samples: pl.DataFrame) -> Iterator[tuple[Events, pl.DataFrame]]:
        """The parts of ``source``."""
        for events, part in self.source.parts(samples):
            yield replace(events, derive=self.derive), part


def _only_through_the_door(door: object, name: str, method: str) -> None:
    if door is not _DOOR:
        raise LeakageError(name, f"to be made by Events.{method}", "a direct call", f"call events.{method}(samples)")


@dataclass(frozen=True)
class PastEvents:
    """Events known at prediction time: event columns + ``sample``, ``prediction_time``, ``recent``. Inputs only.

    ``samples``: the sample numbers asked for, those without any event included.
    """

    frame: pl.DataFrame
    samples: pl.Series
    _door: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        _only_through_the_door(self._door, "PastEvents", "before")

    @cached_property
    def numbered(self) -> pl.DataFrame:
        """The events with ``sample`` as a position in ``samples``."""
        order = pl.DataFrame({"sample": self.samples}).with_row_index("position")
        positions = self.frame.select("sample").join(order, on="sample", how="left", maintain_order="left")["position"]
        return self.frame.with_columns(sample=positions.cast(pl.Int64))


@dataclass(frozen=True)
class FutureEvents:
    """Events after prediction time: event columns + ``sample``, ``prediction_time``, ``index_*``. Labels only.

    ``samples``: the sample numbers asked for, those without any event included.
    """

    frame: pl.DataFrame
    samples: pl.Series
    _door: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        _only_through_the_door(self._door, "FutureEvents", "after")


Aggregation = Literal["last", "first", "min", "max", "mean", "std", "sum", "count", "nunique"]


@dataclass(frozen=True)
class FeatureRule:
    """How one feature is made from a sample's past events.

    Args:
        modality: The modality it belongs to.
        feature: Its name.
        codes: Event codes it reads; a code ending in ``*`` matches a prefix.
        aggregation: Over ``numeric_value`` of the matching events in time order; ``count`` counts them,
            ``nunique`` counts distinct codes. ``last``/``first`` of a categorical feature read ``text_value``.
        categories: Empty for a number. For a categorical feature the known values; a text that is not among
            them becomes the last category, which must be ``"other"``.
        unit: Unit of the number.
        low, high: Plausible range; a value outside is dropped (and counted) before aggregation.
        zero_if_recorded: Name of an event ``source``. Where no event matches but the sample has at least one
            past event from that source, the feature is 0 rather than missing: the table was kept for this
            patient and the thing did not happen.
        history: Read the subject's whole past, not only what happened since the sample's ``since``.
    """

    modality: str
    feature: str
    codes: tuple[str, ...]
    aggregation: Aggregation = "last"
    categories: tuple[str, ...] = ()
    unit: str = ""
    low: float | None = None
    high: float | None = None
    zero_if_recorded: str = ""
    history: bool = False


@dataclass(frozen=True)
class SeriesRule:
    """One feature of a ``series`` modality: every plausible ``numeric_value`` of its codes, at its own time.

    Args:
        modality: The modality it belongs to; all rules of one modality are of one kind.
        feature: Its name.
        codes: Event codes it reads; a code ending in ``*`` matches a prefix.
        unit: Unit of the number.
        low, high: Plausible range; a value outside is dropped and counted.
    """

    modality: str
    feature: str
    codes: tuple[str, ...]
    unit: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class TextRule:
    """A modality of notes: every non-blank ``text_value`` of its codes becomes one or several vectors.

    Args:
        modality: Its name.
        codes: Event codes; a code ending in ``*`` matches a prefix.
    """

    modality: str
    codes: tuple[str, ...]


@dataclass(frozen=True)
class VectorRule:
    """A modality of vectors computed by others, e.g. released X-ray embeddings.

    Args:
        modality: Its name.
        codes: Event codes; ``text_value`` of the event is a row number of ``array``.
        array: A ``.npy`` file, (V, D) float32 or float16.
        width: D.
    """

    modality: str
    codes: tuple[str, ...]
    array: Path
    width: int


@dataclass(frozen=True)
class ImageRule:
    """A modality of one grey image per sample: the latest one known.

    Args:
        modality: Its name.
        codes: Event codes; ``text_value`` of the event is a path relative to ``root``.
        root: Folder of the images.
        side: Pixels of the square that is stored.
    """

    modality: str
    codes: tuple[str, ...]
    root: Path
    side: int = 224


Rule = FeatureRule | SeriesRule | TextRule | VectorRule | ImageRule


@dataclass(frozen=True)
class Extract:
    """What a source hands to the cohort and the featurizer.

    Args:
        name: e.g. ``"eicu"``.
        version: Detected release, e.g. ``"2.0"``.
        events: All events, inputs and outcomes alike (outcomes are events with outcome codes).
        stays: One row per unit stay: ``subject_id, hadm_id, stay_id`` (int64), ``intime, outtime``
            (datetime[us], may be null where unknown), one string column per name in ``attributes`` (null =
            unknown), and whatever the cohort's criteria read. A column ``since`` (datetime[us]), where there is one,
            says from when on events count as this stay's.
        rules: Rules in column order; modalities appear in order of first mention.
        attributes: Names of subgroup columns in ``stays``.
        max_missing: Modality presence rule (see ``ModalitySpec``).
        fingerprint: Hash of the raw files' names, sizes and content.
        warnings: What the user should know: absent optional tables, dropped rows with counts and reasons.
        truth: ``stay_id`` + one float64 column ``<task>`` per task with the exact Bayes risk, or None.
            Stored apart; never an input.
        details: Options it was read with; plain JSON.
        outcomes: Events that answer the cohort's questions, where they are few and kept apart from a large
            ``events``; None = they are among ``events``.
        rows: What the rows of ``stays`` are, for the attrition table.
    """

    name: str
    version: str
    events: EventSource
    stays: pl.DataFrame
    rules: tuple[Rule, ...]
    attributes: tuple[str, ...]
    fingerprint: str
    max_missing: float = 0.8
    warnings: tuple[str, ...] = ()
    truth: pl.DataFrame | None = None
    details: dict[str, Any] = field(default_factory=dict)
    outcomes: EventSource | None = None
    rows: str = "unit stays"

    @property
    def answers(self) -> EventSource:
        """Where labels are looked up."""
        return self.events if self.outcomes is None else self.outcomes
