"""Events: one long table of what happened to patients, and when the ward could have known it.

Columns are those of MEDS 0.4 plus ours. There are two doors out: ``before`` (what may be an input) and
``after`` (what may become a label). A featurizer takes ``PastEvents``, a labeller ``FutureEvents``;
neither type can be made in another way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

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


@dataclass(frozen=True)
class Events:
    """A validated event table.

    Args:
        frame: Columns and dtypes of ``EVENT_SCHEMA``, in that order. ``subject_id``, ``stay_id``, ``time``,
            ``available_time``, ``code`` and ``source`` are never null; ``available_time`` is never before
            ``time`` unless the code's availability rule says so, which the source must have applied already.

    Raises:
        SchemaError: A column is missing, has another dtype, or holds a null where none may be.
    """

    frame: pl.DataFrame

    def __post_init__(self) -> None:
        got = dict(self.frame.schema)
        if got != EVENT_SCHEMA:
            wrong = {c: str(got.get(c)) for c in EVENT_SCHEMA if got.get(c) != EVENT_SCHEMA[c]}
            raise SchemaError("events", f"columns {list(EVENT_SCHEMA)}", f"differing {wrong}", "cast in the source")
        for column in ("subject_id", "stay_id", "time", "available_time", "code", "source"):
            nulls = self.frame[column].null_count()
            if nulls:
                raise SchemaError(f"events.{column}", "no null", f"{nulls} nulls", "drop and count them in the source")

    def before(self, samples: pl.DataFrame) -> PastEvents:
        """Events of each sample's stay that were *available* at or before its prediction time.

        Args:
            samples: ``sample`` (int64, the row number), ``stay_id``, ``prediction_time``.
        """
        keys = samples.select("sample", "stay_id", "prediction_time")
        frame = self.frame.join(keys, on="stay_id", how="inner").filter(
            pl.col("available_time") <= pl.col("prediction_time")
        )
        return PastEvents(frame, samples.height, _door=_DOOR)

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
        return FutureEvents(frame, samples.height, _door=_DOOR)


def _only_through_the_door(door: object, name: str, method: str) -> None:
    if door is not _DOOR:
        raise LeakageError(name, f"to be made by Events.{method}", "a direct call", f"call events.{method}(samples)")


@dataclass(frozen=True)
class PastEvents:
    """Events known at prediction time: event columns + ``sample`` + ``prediction_time``. Inputs only."""

    frame: pl.DataFrame
    n_samples: int
    _door: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        _only_through_the_door(self._door, "PastEvents", "before")


@dataclass(frozen=True)
class FutureEvents:
    """Events after prediction time: event columns + ``sample`` + ``prediction_time`` + ``index_*``. Labels only."""

    frame: pl.DataFrame
    n_samples: int
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


@dataclass(frozen=True)
class Extract:
    """What a source hands to the cohort and the featurizer.

    Args:
        name: e.g. ``"eicu"``.
        version: Detected release, e.g. ``"2.0"``.
        events: All events, inputs and outcomes alike (outcomes are events with outcome codes).
        stays: One row per unit stay: ``subject_id, hadm_id, stay_id`` (int64), ``intime, outtime``
            (datetime[us], may be null where unknown), one string column per name in ``attributes`` (null =
            unknown), and whatever the cohort's criteria read.
        rules: Feature rules in column order; modalities appear in order of first mention.
        attributes: Names of subgroup columns in ``stays``.
        max_missing: Modality presence rule (see ``ModalitySpec``).
        fingerprint: Hash of the raw files' names, sizes and content.
        warnings: What the user should know: absent optional tables, dropped rows with counts and reasons.
        truth: ``stay_id`` + one float64 column ``<task>`` per task with the exact Bayes risk, or None.
            Stored apart; never an input.
    """

    name: str
    version: str
    events: Events
    stays: pl.DataFrame
    rules: tuple[FeatureRule, ...]
    attributes: tuple[str, ...]
    fingerprint: str
    max_missing: float = 0.8
    warnings: tuple[str, ...] = ()
    truth: pl.DataFrame | None = None
    details: dict[str, Any] = field(default_factory=dict)
