"""What is asked of a stay of the PhysioNet/CinC Challenge 2012, and where the answer is found."""

from __future__ import annotations

from typing import Final

import polars as pl

from mmnar.cohort.build import Criterion, Question
from mmnar.schema import Task
from mmnar.sources.events import FutureEvents
from mmnar.sources.physionet2012.codes import HOURS, OUTCOME

MORTALITY: Final = Task("mortality", f"{HOURS} h after unit admission", "death before hospital discharge")


def physionet2012_criteria() -> tuple[Criterion, ...]:
    """None: the challenge's stays are adults who stayed 48 h already."""
    return ()


def physionet2012_questions() -> tuple[Question, ...]:
    """In-hospital death, asked when the 48 h of record are over."""
    asked_at = pl.col("intime") + pl.duration(hours=HOURS, time_unit="us")
    return (Question(MORTALITY, asked_at, (), _in_hospital_death),)


def _in_hospital_death(future: FutureEvents) -> pl.DataFrame:
    """True: died in hospital; False: left it alive; null: not told."""
    told = future.frame.filter(pl.col("code") == OUTCOME).select("sample", label=pl.col("numeric_value") == 1)
    return pl.DataFrame({"sample": future.samples}).join(told, on="sample", how="left")
