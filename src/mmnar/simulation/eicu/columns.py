"""Columns of the eICU-CRD 2.0 tables that are written, in the release's order, by the release's file names."""

from __future__ import annotations

from typing import Final

_COLUMNS: Final = {
    "patient": (
        "patientunitstayid patienthealthsystemstayid gender age ethnicity hospitalid wardid apacheadmissiondx"
        " admissionheight hospitaladmittime24 hospitaladmitoffset hospitaladmitsource hospitaldischargeyear"
        " hospitaldischargetime24 hospitaldischargeoffset hospitaldischargelocation hospitaldischargestatus unittype"
        " unitadmittime24 unitadmitsource unitvisitnumber unitstaytype admissionweight dischargeweight"
        " unitdischargetime24 unitdischargeoffset unitdischargelocation unitdischargestatus uniquepid"
    ),
    "hospital": "hospitalid numbedscategory teachingstatus region",
    "apacheApsVar": (
        "apacheapsvarid patientunitstayid intubated vent dialysis eyes motor verbal meds urine wbc temperature"
        " respiratoryrate sodium heartrate meanbp ph hematocrit creatinine albumin pao2 pco2 bun glucose bilirubin fio2"
    ),
    "apachePredVar": (
        "apachepredvarid patientunitstayid sicuday saps3day1 saps3today saps3yesterday gender teachtype region bedcount"
        " admitsource graftcount meds verbal motor eyes age admitdiagnosis thrombolytics diedinhospital aids"
        " hepaticfailure lymphoma metastaticcancer leukemia immunosuppression cirrhosis electivesurgery activetx"
        " readmit ima midur ventday1 oobventday1 oobintubday1 diabetes managementsystem var03hspxlos pao2 fio2 ejectfx"
        " creatinine dischargelocation visitnumber amilocation day1meds day1verbal day1motor day1eyes day1pao2 day1fio2"
    ),
    "apachePatientResult": (
        "apachepatientresultsid patientunitstayid physicianspeciality physicianinterventioncategory"
        " acutephysiologyscore apachescore apacheversion predictedicumortality actualicumortality predictediculos"
        " actualiculos predictedhospitalmortality actualhospitalmortality predictedhospitallos actualhospitallos"
        " preopmi preopcardiaccath ptcawithin24h unabridgedunitlos unabridgedhosplos actualventdays predventdays"
        " unabridgedactualventdays"
    ),
    "diagnosis": (
        "diagnosisid patientunitstayid activeupondischarge diagnosisoffset diagnosisstring icd9code diagnosispriority"
    ),
    "admissionDx": "admissiondxid patientunitstayid admitdxenteredoffset admitdxpath admitdxname admitdxtext",
    "pastHistory": (
        "pasthistoryid patientunitstayid pasthistoryoffset pasthistoryenteredoffset pasthistorynotetype pasthistorypath"
        " pasthistoryvalue pasthistoryvaluetext"
    ),
    "medication": (
        "medicationid patientunitstayid drugorderoffset drugstartoffset drugivadmixture drugordercancelled drugname"
        " drughiclseqno dosage routeadmin frequency loadingdose prn drugstopoffset gtc"
    ),
    "infusionDrug": (
        "infusiondrugid patientunitstayid infusionoffset drugname drugrate infusionrate drugamount volumeoffluid"
        " patientweight"
    ),
    "treatment": "treatmentid patientunitstayid treatmentoffset treatmentstring activeupondischarge",
    "lab": (
        "labid patientunitstayid labresultoffset labtypeid labname labresult labresulttext labmeasurenamesystem"
        " labmeasurenameinterface labresultrevisedoffset"
    ),
    "vitalAperiodic": (
        "vitalaperiodicid patientunitstayid observationoffset noninvasivesystolic noninvasivediastolic noninvasivemean"
        " paop cardiacoutput cardiacinput svr svri pvr pvri"
    ),
    "vitalPeriodic": (
        "vitalperiodicid patientunitstayid observationoffset temperature sao2 heartrate respiration cvp etco2"
        " systemicsystolic systemicdiastolic systemicmean pasystolic padiastolic pamean st1 st2 st3 icp"
    ),
    "nurseCharting": (
        "nursingchartid patientunitstayid nursingchartoffset nursingchartentryoffset nursingchartcelltypecat"
        " nursingchartcelltypevallabel nursingchartcelltypevalname nursingchartvalue"
    ),
    "respiratoryCharting": (
        "respchartid patientunitstayid respchartoffset respchartentryoffset respcharttypecat respchartvaluelabel"
        " respchartvalue"
    ),
    "respiratoryCare": (
        "respcareid patientunitstayid respcarestatusoffset currenthistoryseqnum airwaytype airwaysize airwayposition"
        " cuffpressure ventstartoffset ventendoffset priorventstartoffset priorventendoffset apneaparams lowexhmvlimit"
        " hiexhmvlimit lowexhtvlimit hipeakpreslimit lowpeakpreslimit hirespratelimit lowrespratelimit sighpreslimit"
        " lowironoxlimit highironoxlimit meanairwaypreslimit peeplimit cpaplimit setapneainterval setapneatv"
        " setapneaippeephigh setapnearr setapneapeakflow setapneainsptime setapneaie setapneafio2"
    ),
    "intakeOutput": (
        "intakeoutputid patientunitstayid intakeoutputoffset intaketotal outputtotal dialysistotal nettotal"
        " intakeoutputentryoffset cellpath celllabel cellvaluenumeric cellvaluetext"
    ),
}
EICU: Final = {table: tuple(text.split()) for table, text in _COLUMNS.items()}
