"""eICU Collaborative Research Database 2.0 (full or demo) → events.

**Identifiers.** ``subject_id`` is the first 53 bits of a hash of ``uniquepid`` (a person; checked for collisions),
``hadm_id`` is ``patienthealthsystemstayid`` (a hospital stay), ``stay_id`` is ``patientunitstayid`` (a unit stay).

**Time axis.** eICU gives minutes from unit admission. Hospital admission is placed on 1 January of
``hospitaldischargeyear`` at ``hospitaladmittime24``; unit admission is that minus ``hospitaladmitoffset``. So all unit
stays of one hospital stay share one axis, exact to the minute. Hospital stays of one person are ordered by year only,
and the day is arbitrary: no label may compare them.

**Availability**: when the ward could have known.

=====================  =============================================================================================
patient, hospital      unit admission: demographics, sources of admission, unit, hospital. Never: discharge columns
                       (outcome events at their own time), ``dischargeweight``, ``apacheadmissiondx`` (entered later).
apacheApsVar           unit admission + 24 h, when APACHE's first day is over; -1 = not measured.
apachePredVar          the same. Never: ``diedinhospital``, ``dischargelocation``, ``var03hspxlos``; ``readmit``,
                       ``visitnumber`` are told by the patient table; ``graftcount`` is 3 where nothing was grafted.
apachePatientResult    the same, version IVa. Never: ``actual*``, ``unabridged*``. Predicted mortality, length of stay
                       and ventilation days are inputs unless ``apache_prediction`` is false.
diagnosis              ``diagnosisoffset``. Never: ``activeupondischarge``, ``diagnosispriority`` (hindsight).
admissiondx            ``admitdxenteredoffset``.
pastHistory            ``pasthistoryenteredoffset``; "not performed" and "not obtainable" are not a history.
medication             ``drugorderoffset``. Never: ``drugordercancelled``, ``drugstopoffset`` (hindsight).
infusionDrug           ``infusionoffset``.
treatment              ``treatmentoffset``. Never: ``activeupondischarge``.
lab                    ``labresultoffset``, known from the later of it and ``labresultrevisedoffset`` (null = never
                       revised).
vitalAperiodic         ``observationoffset``; so vitalPeriodic.
nurseCharting          the later of ``nursingchartoffset`` and ``nursingchartentryoffset``.
respiratoryCharting    the later of ``respchartoffset`` and ``respchartentryoffset``.
respiratoryCare        ``respcarestatusoffset``; a ventilation start counts where it lies before that. Never:
                       ``ventendoffset``. 0 stands for null in this table.
intakeOutput           the later of ``intakeoutputoffset`` and ``intakeoutputentryoffset``, *cell by cell*: the row's
                       ``intaketotal`` sums all cells of its offset, among them cells entered later.
=====================  =============================================================================================

An event without an offset, or without the entry time its rule needs, is dropped and counted.

Source: Pollard et al. 2018, doi:10.1038/sdata.2018.178; ten virtual modalities: CRL-MMNAR, appendix C.1.2.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import polars as pl

from mmnar.errors import SourceError
from mmnar.privacy import counted
from mmnar.sources.ages import age_group
from mmnar.sources.code_tables import code_table, digest
from mmnar.sources.events import EVENT_SCHEMA, Aggregation, Events, Extract, FeatureRule
from mmnar.sources.ledger import Ledger
from mmnar.sources.raw import DataRoot
from mmnar.sources.shards import EventFolder, EventWriter

ATTRIBUTES: Final = ("sex", "age_group", "ethnicity", "unit", "site")
APACHE_DAY: Final = 24 * 60
"""Minutes after unit admission at which APACHE's first day is over."""

_FORM: Final = "1"
"""Changes when a change of code makes other events of the same rows: an unfinished folder of before is not resumed."""

_TEN_YEARS: Final = 10 * 366 * 24 * 60
_PREDICTION: Final = "APACHE_PREDICTION//"
_I, _F, _S, _T = pl.Int64(), pl.Float64(), pl.String(), pl.Time()

_PATIENT: Final[dict[str, pl.DataType]] = {
    "patientunitstayid": _I,
    "patienthealthsystemstayid": _I,
    "uniquepid": _S,
    "gender": _S,
    "age": _S,
    "ethnicity": _S,
    "hospitalid": _I,
    "admissionheight": _F,
    "admissionweight": _F,
    "hospitaladmittime24": _T,
    "hospitaladmitoffset": _I,
    "hospitaladmitsource": _S,
    "hospitaldischargeyear": _I,
    "hospitaldischargeoffset": _I,
    "hospitaldischargestatus": _S,
    "unittype": _S,
    "unitadmitsource": _S,
    "unitvisitnumber": _I,
    "unitstaytype": _S,
    "unitdischargeoffset": _I,
    "unitdischargestatus": _S,
}
_APS: Final = (
    *("intubated", "vent", "dialysis", "eyes", "motor", "verbal", "meds", "urine", "wbc", "temperature"),
    *("respiratoryrate", "sodium", "heartrate", "meanbp", "ph", "hematocrit", "creatinine", "albumin", "pao2"),
    *("pco2", "bun", "glucose", "bilirubin", "fio2"),
)
_PRED: Final = (
    *("ventday1", "oobventday1", "oobintubday1", "activetx", "electivesurgery", "thrombolytics", "midur", "ima"),
    *("ejectfx", "aids", "hepaticfailure", "lymphoma", "metastaticcancer", "leukemia", "immunosuppression"),
    *("cirrhosis", "diabetes"),
)
_RESULT: Final = ("acutephysiologyscore", "apachescore", "preopmi", "preopcardiaccath", "ptcawithin24h")
_RESULT_PREDICTED: Final = (
    *("predictedicumortality", "predictedhospitalmortality", "predictediculos", "predictedhospitallos"),
    "predventdays",
)
_RESPIRATORY: Final = {
    "fio2": "FIO2",
    "fio2 (%)": "FIO2",
    "peep": "PEEP",
    "peep/cpap": "PEEP",
    "sao2": "SAO2",
    "lpm o2": "O2_FLOW",
    "oxygen flow rate": "O2_FLOW",
    "total rr": "RESPIRATORY_RATE",
    "tidal volume (set)": "TIDAL_VOLUME_SET",
    "set vt (servo,ltv)": "TIDAL_VOLUME_SET",
    "mean airway pressure": "MEAN_AIRWAY_PRESSURE",
    "peak insp. pressure": "PEAK_PRESSURE",
    "peak pressure": "PEAK_PRESSURE",
}
_NURSE: Final = (
    *("heart rate", "respiratory rate", "o2 saturation", "temperature (c)"),
    *("non-invasive bp systolic", "non-invasive bp mean"),
)
_PERIODIC: Final = (
    *("heartrate", "respiration", "sao2", "temperature"),
    *("systemicsystolic", "systemicdiastolic", "systemicmean"),
)


def read_eicu(root: str | Path, *, work: Path | None = None, apache_prediction: bool = True) -> Extract:
    """Read eICU tables into one extract.

    Args:
        root: Folder with ``patient`` and any of the other tables, as released (``.csv``, ``.csv.gz``) or as parquet.
        work: Folder for what is built: ``meds`` (the event folder), ``dropped`` (counts); a killed build goes on where
            it was, in bounded memory. None = all events in memory.
        apache_prediction: Whether APACHE's own predictions (mortality, length of stay, ventilation days) are inputs.

    Returns:
        Events, stays and rules. An absent table takes its features with it and is named in ``warnings``.

    Raises:
        SourceError: ``patient`` is absent, or a table is damaged, renamed or not what its columns promise.
        StoreError: ``work`` cannot be written or holds events of other records.
    """
    data = DataRoot(root)
    patient = data.read("patient", _PATIENT, key="patientunitstayid")
    if patient is None or patient.is_empty():
        raise SourceError("table 'patient'", "at least one unit stay", "none", "check the data root")
    notes: list[str] = []
    stays = _stays(patient, notes)
    register = _Register(stays, Ledger(work / "dropped" if work else None))
    tables = [table for table in _TABLES if data.has(table)]
    for table in _TABLES:
        if table not in tables:
            data.chunks(table, {}, required=False)  # for the warning
    events = _in_memory(register, data, tables) if work is None else _on_disk(register, data, tables, work)
    read = ["patient", *tables]
    rules = _rules(set(read), apache_prediction)
    named = dict.fromkeys(rule.modality for rule in _rules({*_TABLES, "patient"}, True))
    absent = [name for name in named if name not in {rule.modality for rule in rules}]
    notes.extend(f"modality '{name}' is absent: none of its tables is there" for name in absent)
    built = events.notes if isinstance(events, EventFolder) else ()
    return Extract(
        name="eicu",
        # the only public release; the demo has the same layout
        version="2.0" + (" simulated" if data.simulated else ""),
        events=events,
        stays=stays.select(
            *("subject_id", "hadm_id", "stay_id", "intime", "outtime", *ATTRIBUTES),
            *("age", "unit_discharge_status", "transferred"),
        ),
        rules=rules,
        attributes=ATTRIBUTES,
        fingerprint=data.fingerprint(),
        warnings=(*data.warnings, *notes, *register.ledger.notes, *built),
        details={"apache_prediction": apache_prediction, "tables": read},
    )


def _in_memory(register: _Register, data: DataRoot, tables: Sequence[str]) -> Events:
    frames = []
    for table in ("patient", *tables):
        events = pl.concat([pl.DataFrame(schema=EVENT_SCHEMA), *register.events(data, table, "")])
        distinct = events.unique(maintain_order=True)
        register.ledger.drop(table, events.height - distinct.height, "events dropped: repeats of another")
        frames.append(distinct)
    return Events(pl.concat(frames))


def _on_disk(register: _Register, data: DataRoot, tables: Sequence[str], work: Path) -> EventFolder:
    subjects = register.admitted["subject_id"].unique().sort()
    writer = EventWriter(work / "meds", subjects, "stay", raw_bytes=sum(data.size(table) for table in tables))
    for table in ("patient", *tables):
        parts = (_FORM, data.identity(table), data.identity("patient"), digest("eicu_drugs"))
        fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        register.ledger.recall(table, fingerprint)
        writer.table(table, fingerprint, register.events(data, table, fingerprint))
    return writer.finish("eICU-CRD", "2.0", {})


class _Register:
    """The stays that rows may belong to; turns rows into events on the common axis, or counts them as dropped.

    ``admitted``: the stays with a ``subject_id`` (without it no event can be placed), at minute 0.
    """

    def __init__(self, stays: pl.DataFrame, ledger: Ledger) -> None:
        self.admitted = stays.drop_nulls("subject_id").with_columns(at=pl.lit(0), known=pl.lit(0))
        self.ledger = ledger
        self._stays = self.admitted.select("subject_id", "hadm_id", "stay_id", "intime")
        self._frames: list[pl.DataFrame] = []

    def events(self, data: DataRoot, table: str, fingerprint: str) -> Iterator[pl.DataFrame]:
        """Events of one table, block by block where its rows can be read apart."""
        self.ledger.begin(table)
        if table == "patient":
            _add_patient(self)
            _add_outcomes(self)
        else:
            columns, add = _TABLES[table]
            for block in _blocks(data, table, columns):
                add(self, table, block)
                yield from self._taken()
        yield from self._taken()
        self.ledger.close(table, fingerprint)

    def _taken(self) -> list[pl.DataFrame]:
        frames, self._frames = self._frames, []
        return frames

    def place(
        self,
        table: str,
        frame: pl.DataFrame,
        at: pl.Expr,
        *,
        entered: pl.Expr | None = None,
    ) -> pl.DataFrame:
        """Give each row its stay and the minutes it happened (``at``) and was known (``known``)."""
        placed = frame.rename({"patientunitstayid": "stay_id"}).join(self._stays, on="stay_id", how="inner")
        self.ledger.drop(table, frame.height - placed.height, "rows dropped: no such unit stay with identifiers")
        placed = placed.with_columns(at=at, known=at if entered is None else pl.max_horizontal(at, entered))
        if entered is not None:
            placed = placed.with_columns(known=pl.when(entered.is_not_null()).then("known"))
        kept = placed.filter(
            pl.col("at").is_between(-_TEN_YEARS, _TEN_YEARS) & pl.col("known").is_between(-_TEN_YEARS, _TEN_YEARS)
        )
        self.ledger.drop(table, placed.height - kept.height, "rows dropped: no plausible offset or entry offset")
        return kept

    def record(
        self,
        table: str,
        placed: pl.DataFrame,
        code: pl.Expr,
        value: pl.Expr | None = None,
        text: pl.Expr | None = None,
    ) -> None:
        """Add placed rows as events; a null code is not an event."""
        events = placed.select(
            *("subject_id", "hadm_id", "stay_id"),
            time=pl.col("intime") + pl.duration(minutes="at", time_unit="us"),
            available_time=pl.col("intime") + pl.duration(minutes="known", time_unit="us"),
            code=code.cast(pl.String),
            numeric_value=(pl.lit(None) if value is None else value).cast(pl.Float32),
            text_value=(pl.lit(None) if text is None else text).cast(pl.String),
            source=pl.lit(table),
        ).drop_nulls("code")
        self._frames.append(events.cast(EVENT_SCHEMA).select(*EVENT_SCHEMA))  # type: ignore[arg-type]


def _blocks(data: DataRoot, table: str, columns: Mapping[str, pl.DataType]) -> Iterator[pl.DataFrame]:
    """A table whole where its rows tell something only together, else block by block."""
    if table not in _TOGETHER:
        return data.chunks(table, columns)
    whole = data.read(table, columns, key=_KEYS.get(table, ""))
    return iter(() if whole is None else (whole,))


# --- stays ------------------------------------------------------------------------------------------------------------


def _subject_ids(uniquepid: pl.Series) -> pl.Series:
    """Integer per person, the same in every run and on every machine.

    >>> _subject_ids(pl.Series(["002-1039", None, "002-1039"])).to_list()
    [6368087817413959, None, 6368087817413959]
    """
    people = uniquepid.drop_nulls().unique().to_list()
    ids = {p: int.from_bytes(hashlib.blake2b(p.encode(), digest_size=8).digest()) >> 11 for p in people}
    if len(set(ids.values())) < len(ids):
        raise SourceError("table 'patient', column 'uniquepid'", "a distinct hash each", "a collision", "report it")
    return uniquepid.replace_strict(ids, default=None, return_dtype=pl.Int64)


def _stays(patient: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """One row per unit stay: ids, times, attributes and the raw columns."""
    frame = patient.rename({"patientunitstayid": "stay_id", "patienthealthsystemstayid": "hadm_id"}).with_columns(
        subject_id=_subject_ids(patient["uniquepid"]), age=_age(patient["age"], notes)
    )
    frame = _on_one_axis(frame, notes)
    frame = _valid_discharge(frame, notes)
    starts = frame.select("hadm_id", outtime="intime", other="stay_id")
    # the next unit stay begins at the very minute this one ends
    moved = frame.join(starts, on=["hadm_id", "outtime"]).filter(pl.col("other") != pl.col("stay_id"))["stay_id"]
    age = pl.col("age")
    return frame.with_columns(
        transferred=pl.col("stay_id").is_in(moved.unique().implode()),
        sex=pl.when(pl.col("gender").is_in(["Female", "Male"])).then("gender"),
        age_group=age_group(age),
        unit="unittype",
        site=pl.col("hospitalid").cast(pl.String),
        unit_discharge_status="unitdischargestatus",
    )


def _age(age: pl.Series, notes: list[str]) -> pl.Series:
    """Years; "> 89" (ages above 89 are hidden in eICU) becomes 90, which no criterion or group tells apart further."""
    years = age.str.replace(r"^>\s*89$", "90").cast(pl.Float64, strict=False)
    bad = years.null_count() - age.null_count()
    if bad:
        notes.append(f"table 'patient', column 'age': {counted(bad)} cells are not an age; taken as unknown")
    return years


def _on_one_axis(frame: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Add ``intime``; drop stays that cannot be placed."""
    hospital_stay = pl.coalesce("hadm_id", -pl.col("stay_id"))
    year, clock = pl.col("hospitaldischargeyear"), pl.col("hospitaladmittime24")
    unequal = frame.filter((year.n_unique() > 1).over(hospital_stay) | (clock.n_unique() > 1).over(hospital_stay))
    if unequal.height:
        notes.append(
            f"table 'patient': {counted(unequal.height)} unit stays whose hospital stay has several admission times or"
            " years; the earliest is taken"
        )
    offset = pl.col("hospitaladmitoffset")
    placed = frame.filter(
        year.min().over(hospital_stay).is_between(1900, 2200)
        & clock.min().over(hospital_stay).is_not_null()
        & offset.is_between(-_TEN_YEARS, _TEN_YEARS)
    )
    if placed.height < frame.height:
        notes.append(
            f"table 'patient': {counted(frame.height - placed.height)} rows dropped: no admission time or year"
        )
    admission = pl.datetime(year.min().over(hospital_stay), 1, 1, time_unit="us") + pl.duration(
        microseconds=clock.cast(pl.Int64).min().over(hospital_stay) // 1000, time_unit="us"
    )
    return placed.with_columns(intime=admission - pl.duration(minutes=offset, time_unit="us"))


def _valid_discharge(frame: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Add ``outtime`` and ``hospital_outtime``, null where discharge is absent or before admission."""
    for column in ("unitdischargeoffset", "hospitaldischargeoffset"):
        bad = frame.filter(~pl.col(column).is_between(0, _TEN_YEARS).fill_null(True)).height
        if bad:
            notes.append(f"table 'patient': {counted(bad)} {column} before admission; taken as unknown")
    minutes = {
        name: pl.when(pl.col(column).is_between(0, _TEN_YEARS)).then(column)
        for name, column in (("outtime", "unitdischargeoffset"), ("hospital_outtime", "hospitaldischargeoffset"))
    }
    contradiction = (pl.col("unitdischargestatus") == "Expired") & (pl.col("hospitaldischargestatus") == "Alive")
    count = frame.filter(contradiction).height
    if count:
        notes.append(
            f"table 'patient': {counted(count)} stays died in the unit but left the hospital alive; taken as unknown"
        )
    return frame.with_columns(
        *((pl.col("intime") + pl.duration(minutes=m, time_unit="us")).alias(name) for name, m in minutes.items()),
        hospital_status=pl.when(~contradiction.fill_null(False)).then("hospitaldischargestatus"),
    )


# --- events of the patient table --------------------------------------------------------------------------------------


def _add_patient(register: _Register) -> None:
    """What is known at unit admission."""
    height = pl.when(pl.col("admissionheight").is_between(100, 250)).then("admissionheight")
    weight = pl.when(pl.col("admissionweight").is_between(20, 400)).then("admissionweight")
    numbers = {
        "AGE": pl.col("age"),
        "HEIGHT": pl.col("admissionheight"),
        "WEIGHT": pl.col("admissionweight"),
        "BMI": weight / (height / 100) ** 2,
        "UNIT_VISIT_NUMBER": pl.col("unitvisitnumber"),
        "HOURS_BEFORE_UNIT": -pl.col("hospitaladmitoffset") / 60,
    }
    texts = {
        "GENDER": "gender",
        "ETHNICITY": "ethnicity",
        "UNIT_ADMIT_SOURCE": "unitadmitsource",
        "HOSPITAL_ADMIT_SOURCE": "hospitaladmitsource",
        "UNIT_TYPE": "unittype",
        "UNIT_STAY_TYPE": "unitstaytype",
    }
    for code, value in numbers.items():
        register.record("patient", register.admitted, pl.when(value.is_not_null()).then(pl.lit(code)), value)
    for code, column in texts.items():
        text = pl.col(column)
        register.record("patient", register.admitted, pl.when(text.is_not_null()).then(pl.lit(code)), text=text)


def _add_outcomes(register: _Register) -> None:
    """``ICU_ADMISSION``, ``ICU_DISCHARGE//…``, ``HOSPITAL_DISCHARGE//…`` at their own times."""
    register.record("patient", register.admitted, pl.lit("ICU_ADMISSION"))
    for name, time, status in (
        ("ICU_DISCHARGE", "outtime", "unitdischargestatus"),
        ("HOSPITAL_DISCHARGE", "hospital_outtime", "hospital_status"),
    ):
        ended = register.admitted.drop_nulls(time).with_columns(intime=pl.col(time))
        known = pl.when(pl.col(status).is_in(["Alive", "Expired"])).then(pl.col(status).str.to_uppercase())
        register.record("patient", ended, pl.lit(f"{name}//") + known.fill_null("UNKNOWN"))


# --- events of the other tables ---------------------------------------------------------------------------------------


def _add_hospital(register: _Register, table: str, frame: pl.DataFrame) -> None:
    placed = register.admitted.join(frame, on="hospitalid")
    teaching = pl.col("teachingstatus").str.to_lowercase()
    words = pl.when(teaching.is_in(["true", "t", "1"])).then(pl.lit("teaching")).otherwise(pl.lit("non-teaching"))
    for code, text in (
        ("TEACHING", pl.when(teaching.is_not_null()).then(words)),
        ("BEDS", pl.col("numbedscategory")),
        ("REGION", pl.col("region")),
    ):
        register.record(table, placed, pl.when(text.is_not_null()).then(pl.lit(f"HOSPITAL//{code}")), text=text)


def _measured(column: str) -> pl.Expr:
    """-1 and below stand for "not measured" in the APACHE tables."""
    return pl.when(pl.col(column) >= 0).then(column)


def _add_columns(
    register: _Register, table: str, frame: pl.DataFrame, prefix: str, values: Mapping[str, pl.Expr], at: pl.Expr
) -> None:
    """One event per non-null value of each row."""
    placed = register.place(table, frame, at)
    for name, value in values.items():
        register.record(table, placed.filter(value.is_not_null()), pl.lit(f"{prefix}{name.upper()}"), value)


def _add_aps(register: _Register, table: str, frame: pl.DataFrame) -> None:
    m = _measured
    derived = {
        "gcs": m("eyes") + m("motor") + m("verbal"),
        "shock_index": pl.when(m("meanbp") > 0).then(m("heartrate") / m("meanbp")),
        "pf_ratio": pl.when(m("fio2") > 0).then(m("pao2") / m("fio2") * 100),
    }
    _add_columns(register, table, frame, "APS//", {c: m(c) for c in _APS} | derived, pl.lit(APACHE_DAY))


def _add_pred(register: _Register, table: str, frame: pl.DataFrame) -> None:
    _add_columns(register, table, frame, "APACHE_PRED//", {c: _measured(c) for c in _PRED}, pl.lit(APACHE_DAY))


def _add_result(register: _Register, table: str, frame: pl.DataFrame) -> None:
    frame = frame.filter(pl.col("apacheversion") == "IVa")
    at = pl.lit(APACHE_DAY)
    _add_columns(register, table, frame, "APACHE//", {c: _measured(c) for c in _RESULT}, at)
    _add_columns(register, table, frame, _PREDICTION, {c: _measured(c) for c in _RESULT_PREDICTED}, at)


def _tidy(column: str) -> pl.Expr:
    return pl.col(column).str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()


def _add_paths(prefix: str, column: str, offset: str) -> Callable[[_Register, str, pl.DataFrame], None]:
    """A table of ``a|b|c`` paths: one event per row, coded with the path."""

    def add(register: _Register, table: str, frame: pl.DataFrame) -> None:
        placed = register.place(table, frame, pl.col(offset))
        register.record(table, placed, pl.lit(prefix) + _tidy(column), pl.lit(1.0))

    return add


def _add_admissiondx(register: _Register, table: str, frame: pl.DataFrame) -> None:
    placed = register.place(table, frame, pl.col("admitdxenteredoffset"))
    path = pl.col("admitdxpath")
    system = path.str.extract(r"Organ Systems\|Organ System\|([^|]+)$")
    register.record(table, placed.filter(system.is_not_null()), pl.lit("ADMISSIONDX//ORGAN_SYSTEM"), text=system)
    for code, yes, no in (
        ("OPERATIVE", r"\|All Diagnosis\|Operative", r"\|All Diagnosis\|Non-operative"),
        ("ELECTIVE", r"\|Elective\|Yes", r"\|Elective\|No"),
    ):
        value = pl.when(path.str.contains(yes)).then(1.0).when(path.str.contains(no)).then(0.0)
        register.record(table, placed.filter(value.is_not_null()), pl.lit(f"ADMISSIONDX//{code}"), value)


def _add_pasthistory(register: _Register, table: str, frame: pl.DataFrame) -> None:
    path = _tidy("pasthistorypath").str.extract(r"past history/(?:organ systems/)?(.*)$")
    taken = frame.with_columns(path=path).filter(~pl.col("path").str.contains("not performed|not obtainable"))
    placed = register.place(table, taken, pl.col("pasthistoryenteredoffset"))
    register.record(table, placed, pl.lit("PASTHISTORY//") + pl.col("path"), pl.lit(1.0))


def _add_medication(register: _Register, table: str, frame: pl.DataFrame) -> None:
    placed = register.place(table, frame, pl.col("drugorderoffset")).with_columns(name=_tidy("drugname"))
    ingredient = pl.when(pl.col("drughiclseqno") > 0).then(pl.lit("hicl:") + pl.col("drughiclseqno").cast(pl.String))
    register.record(table, placed, pl.lit("MEDICATION//") + pl.coalesce(ingredient, "name", pl.lit("unnamed")))
    for drug_class, (names, hicl) in _drug_classes().items():
        of_class = pl.col("name").str.contains(names) | pl.col("drughiclseqno").is_in(hicl)
        orders = placed.filter(of_class.fill_null(False) | pl.col("drughiclseqno").is_in(hicl).fill_null(False))
        # the drug keeps two orders of one class at one minute apart
        register.record(table, orders, pl.lit(f"MEDICATION_CLASS//{drug_class}"), text=pl.coalesce(ingredient, "name"))


def _add_infusion(register: _Register, table: str, frame: pl.DataFrame) -> None:
    placed = register.place(table, frame, pl.col("infusionoffset")).with_columns(
        name=_tidy("drugname").str.replace(r"\s*\([^()]*\)$", "")
    )
    register.record(table, placed, pl.lit("INFUSION//") + pl.col("name"), pl.lit(1.0))
    for drug_class, (names, _) in _drug_classes().items():
        drips = placed.filter(pl.col("name").str.contains(names))
        register.record(table, drips, pl.lit(f"INFUSION_CLASS//{drug_class}"), pl.lit(1.0), text=pl.col("name"))


def _add_lab(register: _Register, table: str, frame: pl.DataFrame) -> None:
    resulted = frame.filter(pl.col("labresult").is_not_null())
    register.ledger.drop(table, frame.height - resulted.height, "rows dropped: no number")
    revised = pl.coalesce("labresultrevisedoffset", "labresultoffset")
    placed = register.place(table, resulted, pl.col("labresultoffset"), entered=revised)
    register.record(table, placed, pl.lit("LAB//") + _tidy("labname"), pl.col("labresult"))


def _add_aperiodic(register: _Register, table: str, frame: pl.DataFrame) -> None:
    systolic, diastolic = pl.col("noninvasivesystolic"), pl.col("noninvasivediastolic")
    values = {
        "systolic": systolic,
        "diastolic": diastolic,
        "mean": pl.col("noninvasivemean"),
        "calculated_mean": (systolic + 2 * diastolic) / 3,
    }
    _add_columns(register, table, frame, "VITAL_APERIODIC//", values, pl.col("observationoffset"))


def _add_periodic(register: _Register, table: str, frame: pl.DataFrame) -> None:
    index = pl.when(pl.col("systemicsystolic") > 0).then(pl.col("heartrate") / pl.col("systemicsystolic"))
    values = {c: pl.col(c) for c in _PERIODIC} | {"shock_index": index}
    _add_columns(register, table, frame, "VITAL_PERIODIC//", values, pl.col("observationoffset"))


def _add_nurse(register: _Register, table: str, frame: pl.DataFrame) -> None:
    name, value = _tidy("nursingchartcelltypevalname"), pl.col("nursingchartvalue").cast(pl.Float64, strict=False)
    wanted = frame.filter(name.is_in(_NURSE))
    numeric = wanted.filter(value.is_finite())
    register.ledger.drop(table, wanted.height - numeric.height, "rows dropped: no number")
    placed = register.place(table, numeric, pl.col("nursingchartoffset"), entered=pl.col("nursingchartentryoffset"))
    register.record(table, placed, pl.lit("NURSE//") + name, value)


def _add_respiratorycharting(register: _Register, table: str, frame: pl.DataFrame) -> None:
    placed = register.place(table, frame, pl.col("respchartoffset"), entered=pl.col("respchartentryoffset"))
    label = _tidy("respchartvaluelabel")
    code = label.replace(_RESPIRATORY)
    text = pl.col("respchartvalue").str.strip_chars(" %")
    number = text.cast(pl.Float64, strict=False)
    # some hospitals chart FiO2 as a fraction
    number = pl.when((code == "FIO2") & (number <= 1)).then(number * 100).otherwise(number)
    measured = label.is_in(list(_RESPIRATORY))
    unread = placed.filter(measured & ~number.is_finite().fill_null(False)).height
    register.ledger.drop(table, unread, "rows dropped: a measurement that is no number")
    placed = placed.filter(~measured | number.is_finite())
    register.record(
        table, placed, pl.lit("RESP//") + code, pl.when(measured).then(number), text=pl.col("respchartvalue")
    )


def _add_respiratorycare(register: _Register, table: str, frame: pl.DataFrame) -> None:
    placed = register.place(table, frame, pl.col("respcarestatusoffset"))
    airway = pl.col("airwaytype")
    started = (pl.col("ventstartoffset") != 0) & (pl.col("ventstartoffset") <= pl.col("at"))
    register.record(table, placed, pl.lit("RESPCARE//STATUS"))
    tubes = placed.filter(airway.is_not_null() & (airway != "No Artificial Airway"))
    register.record(table, tubes, pl.lit("RESPCARE//ARTIFICIAL_AIRWAY"), pl.lit(1.0))
    register.record(table, placed.filter(started), pl.lit("RESPCARE//VENTILATION_STARTED"), pl.lit(1.0))


def _add_intakeoutput(register: _Register, table: str, frame: pl.DataFrame) -> None:
    path, cell = _tidy("cellpath"), pl.col("cellvaluenumeric")
    label = _tidy("celllabel")
    kind = path.str.extract(r"\|i&o\|(intake|output|dialysis) \(ml\)")
    cells = frame.with_columns(kind=kind, label=label).filter(pl.col("kind").is_not_null() & cell.is_not_null())
    placed = register.place(
        table, cells, pl.col("intakeoutputoffset"), entered=pl.col("intakeoutputentryoffset")
    ).with_columns(
        net=pl.when((pl.col("kind") == "output") | ((pl.col("kind") == "dialysis") & (pl.col("label") == "out")))
        .then(-cell.abs())
        .otherwise(cell.abs())
    )
    label = pl.col("label")
    urine = (pl.col("kind") == "output") & label.str.contains("urin|foley|void") & ~label.str.contains("count")
    for code, rows, value in (
        ("INTAKE", pl.col("kind") == "intake", cell),
        ("OUTPUT", pl.col("kind") == "output", cell),
        ("URINE", urine, cell),
        ("DIALYSIS", pl.col("kind") == "dialysis", pl.col("net")),
        ("NET", pl.lit(True), pl.col("net")),
    ):
        register.record(table, placed.filter(rows), pl.lit(f"IO//{code}"), value, text=pl.col("cellpath"))
    _add_balance(register, table, placed)


def _add_balance(register: _Register, table: str, placed: pl.DataFrame) -> None:
    """Sign of the running net balance, each time the ward learns of a new cell."""
    ids = ["subject_id", "hadm_id", "stay_id", "intime"]
    running = (
        placed.filter(pl.col("net").abs() <= 10_000)
        .unique([*ids, "at", "known", "cellpath", "net"])
        .sort("stay_id", "known", "net")
        .group_by(*ids, "known", maintain_order=True)
        .agg(pl.col("net").sum())
        .with_columns(at=pl.col("known"), balance=pl.col("net").cum_sum().over("stay_id").round(3))
    )
    positive = (pl.col("balance") > 0).cast(pl.Float64)
    register.record(table, running, pl.lit("IO//POSITIVE_BALANCE"), positive)


_STAY: Final[dict[str, pl.DataType]] = {"patientunitstayid": _I}
_Add = Callable[[_Register, str, pl.DataFrame], None]
_TABLES: Final[dict[str, tuple[dict[str, pl.DataType], _Add]]] = {
    "hospital": ({"hospitalid": _I, "numbedscategory": _S, "teachingstatus": _S, "region": _S}, _add_hospital),
    "apacheapsvar": (_STAY | dict.fromkeys(_APS, _F), _add_aps),
    "apachepredvar": (_STAY | dict.fromkeys(_PRED, _F), _add_pred),
    "apachepatientresult": (
        _STAY | {"apacheversion": _S} | dict.fromkeys((*_RESULT, *_RESULT_PREDICTED), _F),
        _add_result,
    ),
    "diagnosis": (
        _STAY | {"diagnosisoffset": _I, "diagnosisstring": _S},
        _add_paths("DIAGNOSIS//", "diagnosisstring", "diagnosisoffset"),
    ),
    "admissiondx": (_STAY | {"admitdxenteredoffset": _I, "admitdxpath": _S}, _add_admissiondx),
    "pasthistory": (_STAY | {"pasthistoryenteredoffset": _I, "pasthistorypath": _S}, _add_pasthistory),
    "medication": (_STAY | {"drugorderoffset": _I, "drugname": _S, "drughiclseqno": _I}, _add_medication),
    "infusiondrug": (_STAY | {"infusionoffset": _I, "drugname": _S}, _add_infusion),
    "treatment": (
        _STAY | {"treatmentoffset": _I, "treatmentstring": _S},
        _add_paths("TREATMENT//", "treatmentstring", "treatmentoffset"),
    ),
    "lab": (
        _STAY | {"labresultoffset": _I, "labresultrevisedoffset": _I, "labname": _S, "labresult": _F},
        _add_lab,
    ),
    "vitalaperiodic": (
        _STAY
        | {"observationoffset": _I}
        | dict.fromkeys(("noninvasivesystolic", "noninvasivediastolic", "noninvasivemean"), _F),
        _add_aperiodic,
    ),
    "vitalperiodic": (_STAY | {"observationoffset": _I} | dict.fromkeys(_PERIODIC, _F), _add_periodic),
    "nursecharting": (
        _STAY
        | {"nursingchartoffset": _I, "nursingchartentryoffset": _I}
        | {"nursingchartcelltypevalname": _S, "nursingchartvalue": _S},
        _add_nurse,
    ),
    "respiratorycharting": (
        _STAY | {"respchartoffset": _I, "respchartentryoffset": _I, "respchartvaluelabel": _S, "respchartvalue": _S},
        _add_respiratorycharting,
    ),
    "respiratorycare": (
        _STAY | {"respcarestatusoffset": _I, "ventstartoffset": _I, "airwaytype": _S},
        _add_respiratorycare,
    ),
    "intakeoutput": (
        _STAY
        | {"intakeoutputoffset": _I, "intakeoutputentryoffset": _I}
        | {"cellpath": _S, "celllabel": _S, "cellvaluenumeric": _F},
        _add_intakeoutput,
    ),
}
_TOGETHER: Final = ("hospital", "apacheapsvar", "apachepredvar", "intakeoutput")
"""Tables read whole: keys are checked over all rows; a running fluid balance needs all cells of its stay."""

_KEYS: Final = {
    "hospital": "hospitalid",
    "apacheapsvar": "patientunitstayid",
    "apachepredvar": "patientunitstayid",
}


# --- rules ------------------------------------------------------------------------------------------------------------


def _drug_classes() -> dict[str, tuple[str, list[int]]]:
    """Class → (regular expression over lower-case names, HICL ingredient numbers)."""
    classes: dict[str, tuple[str, list[int]]] = {}
    for row in code_table("eicu_drugs"):
        names = "|".join(re.escape(n) for n in row["names"].split(";"))
        classes[row["drug_class"]] = (names, [int(n) for n in row["hicl"].split(";") if n])
    return classes


def _rules(tables: set[str], apache_prediction: bool) -> tuple[FeatureRule, ...]:
    """Rules of the tables that are there."""
    return tuple(
        _rule(row)
        for row in code_table("eicu")
        if row["table"] in tables and (apache_prediction or not row["codes"].startswith(_PREDICTION))
    )


def _rule(row: dict[str, str]) -> FeatureRule:
    # the table is ours: a word that is no aggregation is a bug
    assert row["aggregation"] in get_args(Aggregation)
    aggregation: Any = row["aggregation"]
    return FeatureRule(
        modality=row["modality"],
        feature=row["feature"],
        codes=tuple(row["codes"].split(";")),
        aggregation=aggregation,
        categories=tuple(c for c in row["categories"].split(";") if c),
        unit=row["unit"],
        low=float(row["low"]) if row["low"] else None,
        high=float(row["high"]) if row["high"] else None,
        zero_if_recorded=row["zero_if_recorded"],
    )
