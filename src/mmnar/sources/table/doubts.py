"""What a table says twice, or against itself: counted and said, never decided in silence."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from mmnar.privacy import counted
from mmnar.sources.table.reading import raw_name
from mmnar.sources.table.spec import TableSpec


def doubts(spec: TableSpec, rows: pl.DataFrame, kept: pl.DataFrame) -> Iterator[str]:
    """Sentences about rows that are in doubt.

    Args:
        rows: As read, with ``subject_id``.
        kept: The rows that no exclude rule takes, with outcomes and attributes.
    """
    named = [raw_name(c) for c, key in spec.mentioned().items() if key not in ("sample", "subject", "ignore")]
    repeats = rows.height - rows.select("subject_id", *named).n_unique()
    if repeats:
        yield f"{counted(repeats)} rows repeat another row of the same patient in every named column: kept"
    for name, _ in spec.attributes:
        told = kept.select("subject_id", name).drop_nulls().unique()
        torn = told.group_by("subject_id").len().filter(pl.col("len") > 1).height
        if torn:
            yield f"attribute '{name}': {counted(torn)} patients have more than one value: each row keeps its own"
    if spec.prediction_time:
        for outcome in spec.outcomes:
            answer = pl.col(f"outcome:{outcome.name}")
            asked = kept.drop_nulls(f"outcome:{outcome.name}").group_by("subject_id", "prediction_time")
            torn = asked.agg(answer.n_unique()).filter(answer > 1).height
            if torn:
                yield (
                    f"outcome '{outcome.name}': {counted(torn)} questions, same patient and same time, have both"
                    " answers: kept as they are"
                )
    late = [c.name for c in spec.columns if c.known_at]
    if late:
        after = [
            pl.col(f"value:{name}").is_not_null() & (pl.col(f"at:{name}") > pl.col("prediction_time")) for name in late
        ]
        given = [pl.col(f"value:{name}").is_not_null() & pl.col(f"at:{name}").is_not_null() for name in late]
        n = kept.filter(pl.any_horizontal(given) & (pl.sum_horizontal(after) == pl.sum_horizontal(given))).height
        if n:
            yield f"{counted(n)} rows ask before anything with a known_at is known: check prediction_time and known_at"
