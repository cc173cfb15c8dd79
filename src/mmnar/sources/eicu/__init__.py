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

from mmnar.sources.eicu.reader import read_eicu

__all__ = ["read_eicu"]
