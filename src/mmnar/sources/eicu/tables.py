"""The table of tables: what is read of each, and how its rows become events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import polars as pl

from mmnar.sources.eicu.admission import add_hospital
from mmnar.sources.eicu.apache import APS, PRED, RESULT, RESULT_PREDICTED, add_aps, add_pred, add_result
from mmnar.sources.eicu.charts import (
    PERIODIC,
    add_aperiodic,
    add_intakeoutput,
    add_nurse,
    add_periodic,
    add_respiratorycare,
    add_respiratorycharting,
)
from mmnar.sources.eicu.entries import add_admissiondx, add_infusion, add_medication, add_pasthistory, add_paths
from mmnar.sources.eicu.labs import UNIT, add_lab
from mmnar.sources.eicu.register import Register

_I, _F, _S = pl.Int64(), pl.Float64(), pl.String()
_STAY: Final[dict[str, pl.DataType]] = {"patientunitstayid": _I}
_Add = Callable[[Register, str, pl.DataFrame], None]
TABLES: Final[dict[str, tuple[dict[str, pl.DataType], _Add]]] = {
    "hospital": ({"hospitalid": _I, "numbedscategory": _S, "teachingstatus": _S, "region": _S}, add_hospital),
    "apacheapsvar": (_STAY | dict.fromkeys(APS, _F), add_aps),
    "apachepredvar": (_STAY | dict.fromkeys(PRED, _F), add_pred),
    "apachepatientresult": (
        _STAY | {"apacheversion": _S} | dict.fromkeys((*RESULT, *RESULT_PREDICTED), _F),
        add_result,
    ),
    "diagnosis": (
        _STAY | {"diagnosisoffset": _I, "diagnosisstring": _S},
        add_paths("DIAGNOSIS//", "diagnosisstring", "diagnosisoffset"),
    ),
    "admissiondx": (_STAY | {"admitdxenteredoffset": _I, "admitdxpath": _S}, add_admissiondx),
    "pasthistory": (_STAY | {"pasthistoryenteredoffset": _I, "pasthistorypath": _S}, add_pasthistory),
    "medication": (_STAY | {"drugorderoffset": _I, "drugname": _S, "drughiclseqno": _I}, add_medication),
    "infusiondrug": (_STAY | {"infusionoffset": _I, "drugname": _S}, add_infusion),
    "treatment": (
        _STAY | {"treatmentoffset": _I, "treatmentstring": _S},
        add_paths("TREATMENT//", "treatmentstring", "treatmentoffset"),
    ),
    "lab": (
        _STAY | {"labresultoffset": _I, "labresultrevisedoffset": _I, "labname": _S, "labresult": _F, UNIT: _S},
        add_lab,
    ),
    "vitalaperiodic": (
        _STAY
        | {"observationoffset": _I}
        | dict.fromkeys(("noninvasivesystolic", "noninvasivediastolic", "noninvasivemean"), _F),
        add_aperiodic,
    ),
    "vitalperiodic": (_STAY | {"observationoffset": _I} | dict.fromkeys(PERIODIC, _F), add_periodic),
    "nursecharting": (
        _STAY
        | {"nursingchartoffset": _I, "nursingchartentryoffset": _I}
        | {"nursingchartcelltypevalname": _S, "nursingchartvalue": _S},
        add_nurse,
    ),
    "respiratorycharting": (
        _STAY | {"respchartoffset": _I, "respchartentryoffset": _I, "respchartvaluelabel": _S, "respchartvalue": _S},
        add_respiratorycharting,
    ),
    "respiratorycare": (
        _STAY | {"respcarestatusoffset": _I, "ventstartoffset": _I, "airwaytype": _S},
        add_respiratorycare,
    ),
    "intakeoutput": (
        _STAY
        | {"intakeoutputoffset": _I, "intakeoutputentryoffset": _I}
        | {"cellpath": _S, "celllabel": _S, "cellvaluenumeric": _F},
        add_intakeoutput,
    ),
}
TOGETHER: Final = ("hospital", "apacheapsvar", "apachepredvar", "intakeoutput")
"""Tables read whole: keys are checked over all rows; a running fluid balance needs all cells of its stay."""

OPTIONAL: Final = (UNIT,)
"""Columns that a table may lack."""

KEYS: Final = {
    "hospital": "hospitalid",
    "apacheapsvar": "patientunitstayid",
    "apachepredvar": "patientunitstayid",
}
