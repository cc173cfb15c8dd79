"""MIMIC-IV 2.2, 3.0, 3.1 and the open demo, with MIMIC-IV-Note 2.2, MIMIC-CXR-JPG and its released embeddings → events.

**Time axis.** Dates are shifted per patient and consistent within a patient: no label may compare patients' dates.

**Availability**: when the ward could have known; never before it happened.

==================  ================================================================================================
admissions          ``admittime``: age, sex, race, insurance, language, marital status, type and place of admission,
                    earlier admissions that were over by then; time in the emergency department: ``edouttime``.
                    Never: ``hospital_expire_flag``, ``deathtime``, ``discharge_location``, ``dischtime`` (outcome
                    events at their own time); patients ``dod``.
icustays            ``intime``: first care unit, earlier unit stays. Never: ``los``, ``outtime``, ``last_careunit``.
labevents           ``storetime``, else ``charttime`` (specimen) + 1 h.
chartevents         ``storetime``, else ``charttime``.
outputevents        ``storetime``, else ``charttime``.
inputevents         ``storetime``, else ``endtime``: that an infusion began. Never: amounts (the row is rewritten until
procedureevents     it ends), status.
prescriptions       ``starttime`` of the order. Never: ``stoptime``.
emar                ``storetime``, else ``charttime``, of doses given.
diagnoses_icd       a day after the discharge of their admission: codes are given by coders when the patient has left.
                    So they are history to later admissions and never feed a question asked at or before the discharge.
                    drgcodes, procedures_icd and hcpcsevents are not read.
omr                 the day after ``chartdate``.
discharge           the latest of ``storetime``, ``charttime`` (the midnight before) and ``dischtime``.
radiology           ``storetime``, else ``charttime`` (examination) + 24 h.
MIMIC-CXR           study date and time; the image itself, not its report or labels.
==================  ================================================================================================

A record counts as a stay's own from 24 h before admission on (``stays.since``); only comorbidities, visits' weight and
height, and counts of earlier stays look further back. Rows without a usable time, before birth (1 January of the
year of birth), after death (``deathtime``, else the end of ``dod``), of an admission or unit stay that does not join,
without a number, or in a unit that is not known for the item are dropped and counted.

Sources: Johnson et al. 2023, doi:10.1038/s41597-022-01899-x; CRL-MMNAR, appendix C.1.1. Comorbidity groups: Charlson
groups in the coding of Quan et al. 2005, doi:10.1097/01.mlr.0000182534.19832.83.
"""

from mmnar.sources.mimic_iv.reader import read_mimic_iv

__all__ = ["read_mimic_iv"]
