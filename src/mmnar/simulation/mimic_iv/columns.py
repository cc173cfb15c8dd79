"""Columns of the MIMIC tables that are written, in the releases' order.

MIMIC-IV 3.1 (equal to 2.2 in every table here), MIMIC-IV-Note 2.2, MIMIC-CXR-JPG 2.1.0.
"""

from __future__ import annotations

from typing import Final


def _columns(text: str) -> tuple[str, ...]:
    return tuple(text.split())


HOSP: Final = {
    "patients": _columns("subject_id gender anchor_age anchor_year anchor_year_group dod"),
    "admissions": _columns(
        "subject_id hadm_id admittime dischtime deathtime admission_type admit_provider_id admission_location"
        " discharge_location insurance language marital_status race edregtime edouttime hospital_expire_flag"
    ),
    "transfers": _columns("subject_id hadm_id transfer_id eventtype careunit intime outtime"),
    "services": _columns("subject_id hadm_id transfertime prev_service curr_service"),
    "labevents": _columns(
        "labevent_id subject_id hadm_id specimen_id itemid order_provider_id charttime storetime value valuenum"
        " valueuom ref_range_lower ref_range_upper flag priority comments"
    ),
    "d_labitems": _columns("itemid label fluid category"),
    "diagnoses_icd": _columns("subject_id hadm_id seq_num icd_code icd_version"),
    "d_icd_diagnoses": _columns("icd_code icd_version long_title"),
    "procedures_icd": _columns("subject_id hadm_id seq_num chartdate icd_code icd_version"),
    "d_icd_procedures": _columns("icd_code icd_version long_title"),
    "prescriptions": _columns(
        "subject_id hadm_id pharmacy_id poe_id poe_seq order_provider_id starttime stoptime drug_type drug"
        " formulary_drug_cd gsn ndc prod_strength form_rx dose_val_rx dose_unit_rx form_val_disp form_unit_disp"
        " doses_per_24_hrs route"
    ),
    "omr": _columns("subject_id chartdate seq_num result_name result_value"),
    "microbiologyevents": _columns(
        "microevent_id subject_id hadm_id micro_specimen_id order_provider_id chartdate charttime spec_itemid"
        " spec_type_desc test_seq storedate storetime test_itemid test_name org_itemid org_name isolate_num quantity"
        " ab_itemid ab_name dilution_text dilution_comparison dilution_value interpretation comments"
    ),
}
ICU: Final = {
    "icustays": _columns("subject_id hadm_id stay_id first_careunit last_careunit intime outtime los"),
    "chartevents": _columns(
        "subject_id hadm_id stay_id caregiver_id charttime storetime itemid value valuenum valueuom warning"
    ),
    "d_items": _columns(
        "itemid label abbreviation linksto category unitname param_type lownormalvalue highnormalvalue"
    ),
    "outputevents": _columns("subject_id hadm_id stay_id caregiver_id charttime storetime itemid value valueuom"),
    "inputevents": _columns(
        "subject_id hadm_id stay_id caregiver_id starttime endtime storetime itemid amount amountuom rate rateuom"
        " orderid linkorderid ordercategoryname secondaryordercategoryname ordercomponenttypedescription"
        " ordercategorydescription patientweight totalamount totalamountuom isopenbag continueinnextdept"
        " statusdescription originalamount originalrate"
    ),
    "procedureevents": _columns(
        "subject_id hadm_id stay_id caregiver_id starttime endtime storetime itemid value valueuom location"
        " locationcategory orderid linkorderid ordercategoryname ordercategorydescription patientweight isopenbag"
        " continueinnextdept statusdescription originalamount originalrate"
    ),
}
NOTE: Final = _columns("note_id subject_id hadm_id note_type note_seq charttime storetime text")
CXR_METADATA: Final = _columns(
    "dicom_id subject_id study_id PerformedProcedureStepDescription ViewPosition Rows Columns StudyDate StudyTime"
    " ProcedureCodeSequence_CodeMeaning ViewCodeSequence_CodeMeaning PatientOrientationCodeSequence_CodeMeaning"
)
CXR_SPLIT: Final = _columns("dicom_id study_id subject_id split")
CXR_CHEXPERT: Final = (
    *("subject_id", "study_id", "Atelectasis", "Cardiomegaly", "Consolidation", "Edema"),
    *("Enlarged Cardiomediastinum", "Fracture", "Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion"),
    *("Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices"),
)
