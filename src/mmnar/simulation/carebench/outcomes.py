"""What is asked in the CareBench world: 25 phenotypes with their codes, death, and the length of the unit stay.

Codes are real ones of ICD-9-CM and ICD-10-CM, written down here by hand; the groups are those of HCUP's Clinical
Classifications Software 2015 that the benchmark asks for (Harutyunyan et al. 2019, doi:10.1038/s41597-019-0103-9).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

ToldBy = Literal["series", "order", "film", "both"]


@dataclass(frozen=True)
class Phenotype:
    """A group of diagnoses.

    Args:
        name: As in the benchmark's table of phenotypes, in small letters.
        told_by: ``series``: a direction of the record's latents; ``order``: which of two episodes came first;
            ``film``: a direction of the film's latents; ``both``: the sign of a product of two such directions.
        prevalence: Share of stays.
        icd9, icd10: Codes of the group with their titles.
    """

    name: str
    told_by: ToldBy
    prevalence: float
    icd9: dict[str, str]
    icd10: dict[str, str]


PHENOTYPES: Final = (
    Phenotype(
        "arf",
        "series",
        0.40,
        {"5849": "Acute kidney failure, unspecified"},
        {"N179": "Acute kidney failure, unspecified", "N19": "Unspecified kidney failure"},
    ),
    Phenotype(
        "a_cvd",
        "order",
        0.35,
        {"431": "Intracerebral hemorrhage", "43491": "Cerebral artery occlusion, unspecified with cerebral infarction"},
        {"I639": "Cerebral infarction, unspecified"},
    ),
    Phenotype(
        "ami",
        "order",
        0.45,
        {"41071": "Subendocardial infarction, initial episode of care"},
        {"I214": "Non-ST elevation (NSTEMI) myocardial infarction"},
    ),
    Phenotype("arrhy", "series", 0.35, {"42731": "Atrial fibrillation"}, {"I4891": "Unspecified atrial fibrillation"}),
    Phenotype(
        "ckd",
        "series",
        0.25,
        {"5853": "Chronic kidney disease, Stage III (moderate)", "5859": "Chronic kidney disease, unspecified"},
        {"N183": "Chronic kidney disease, stage 3 (moderate)", "N189": "Chronic kidney disease, unspecified"},
    ),
    Phenotype(
        "copd",
        "film",
        0.25,
        {"496": "Chronic airway obstruction, not elsewhere classified"},
        {"J449": "Chronic obstructive pulmonary disease, unspecified"},
    ),
    Phenotype(
        "surg_cmp",
        "both",
        0.40,
        {"99811": "Hemorrhage complicating a procedure", "2853": "Antineoplastic chemotherapy induced anemia"},
        {"T8189XA": "Other complications of procedures, not elsewhere classified, initial encounter"},
    ),
    Phenotype(
        "cd", "both", 0.35, {"4260": "Atrioventricular block, complete"}, {"I442": "Atrioventricular block, complete"}
    ),
    Phenotype(
        "chf",
        "film",
        0.35,
        {"4280": "Congestive heart failure, unspecified", "42823": "Acute on chronic systolic heart failure"},
        {"I509": "Heart failure, unspecified", "I5023": "Acute on chronic systolic (congestive) heart failure"},
    ),
    Phenotype(
        "cor_ath",
        "both",
        0.45,
        {"41401": "Coronary atherosclerosis of native coronary artery"},
        {"I2510": "Atherosclerotic heart disease of native coronary artery without angina pectoris"},
    ),
    Phenotype(
        "dm_c",
        "series",
        0.20,
        {"25060": "Diabetes with neurological manifestations, type II or unspecified type"},
        {"E1165": "Type 2 diabetes mellitus with hyperglycemia"},
    ),
    Phenotype(
        "dm_nc",
        "series",
        0.25,
        {"25000": "Diabetes mellitus without mention of complication, type II or unspecified type"},
        {"E119": "Type 2 diabetes mellitus without complications"},
    ),
    Phenotype(
        "dlm",
        "series",
        0.40,
        {"2724": "Other and unspecified hyperlipidemia"},
        {"E785": "Hyperlipidemia, unspecified"},
    ),
    Phenotype("htn", "both", 0.45, {"4019": "Unspecified essential hypertension"}, {"I10": "Essential hypertension"}),
    Phenotype(
        "flu_ele",
        "series",
        0.42,
        {"2762": "Acidosis", "2767": "Hyperpotassemia"},
        {"E872": "Acidosis", "E875": "Hyperkalemia"},
    ),
    Phenotype(
        "gib",
        "series",
        0.15,
        {"5789": "Hemorrhage of gastrointestinal tract, unspecified"},
        {"K922": "Gastrointestinal hemorrhage, unspecified"},
    ),
    Phenotype(
        "htn_c",
        "both",
        0.35,
        {"40390": "Hypertensive chronic kidney disease, unspecified, with stage I through IV"},
        {"I129": "Hypertensive chronic kidney disease with stage 1 through stage 4"},
    ),
    Phenotype(
        "liver",
        "series",
        0.18,
        {"5715": "Cirrhosis of liver without mention of alcohol"},
        {"K7460": "Unspecified cirrhosis of liver"},
    ),
    Phenotype(
        "lrd",
        "film",
        0.20,
        {"515": "Postinflammatory pulmonary fibrosis"},
        {"J8410": "Pulmonary fibrosis, unspecified"},
    ),
    Phenotype("urd", "film", 0.15, {"47874": "Stenosis of larynx"}, {"J386": "Stenosis of larynx"}),
    Phenotype(
        "ptx",
        "film",
        0.22,
        {"5119": "Unspecified pleural effusion", "5180": "Pulmonary collapse"},
        {"J90": "Pleural effusion, not elsewhere classified"},
    ),
    Phenotype(
        "pna",
        "film",
        0.28,
        {"486": "Pneumonia, organism unspecified", "48241": "Methicillin susceptible pneumonia due to Staphylococcus"},
        {"J189": "Pneumonia, unspecified organism"},
    ),
    Phenotype(
        "rf",
        "both",
        0.45,
        {"51881": "Acute respiratory failure"},
        {"J9601": "Acute respiratory failure with hypoxia"},
    ),
    Phenotype(
        "sepsis",
        "both",
        0.40,
        {"0389": "Unspecified septicemia", "99592": "Severe sepsis"},
        {"A419": "Sepsis, unspecified organism", "R6520": "Severe sepsis without septic shock"},
    ),
    Phenotype(
        "shock",
        "order",
        0.30,
        {"78552": "Septic shock", "78559": "Other shock without mention of trauma"},
        {"R579": "Shock, unspecified", "R6521": "Severe sepsis with septic shock"},
    ),
)
DECOYS: Final = {
    9: {
        # each begins like a phenotype's code and lies in none; E8782 like an ICD-10 code
        "2729": "Unspecified disorder of lipoid metabolism",
        "2859": "Anemia, unspecified",
        "41402": "Coronary atherosclerosis of autologous vein bypass graft",
        "4275": "Cardiac arrest",
        "5186": "Allergic bronchopulmonary aspergillosis",
        "53190": "Gastric ulcer, unspecified as acute or chronic, without mention of hemorrhage or perforation",
        "7856": "Enlargement of lymph nodes",
        "E8782": "Surgical operation with anastomosis, bypass, or graft, as the cause of abnormal reaction of patient",
    },
    10: {
        "D649": "Anemia, unspecified",
        "E789": "Disorder of lipoprotein metabolism, unspecified",
        "I25810": "Atherosclerosis of coronary artery bypass graft(s) without angina pectoris",
        "I4901": "Ventricular fibrillation",
        "I469": "Cardiac arrest, cause unspecified",
        "K259": "Gastric ulcer, unspecified as acute or chronic, without hemorrhage or perforation",
        "R6510": "Systemic inflammatory response syndrome of non-infectious origin without acute organ dysfunction",
    },
}
"""Version → code → title, of codes in no phenotype."""

ANEMIA: Final = {9: "2859", 10: "D649"}
"""Everyone who is coded has it: nobody is without codes for having no phenotype."""
ARREST: Final = {9: "4275", 10: "I469"}

MORTALITY: Final = "mortality"
LENGTHS: Final = {
    "los_2_3": (2, 3),
    "los_3_4": (3, 4),
    "los_4_5": (4, 5),
    "los_5_6": (5, 6),
    "los_6_7": (6, 7),
    "los_7_14": (7, 14),
    "los_14_up": (14, None),
}
"""Class → days of the whole unit stay, from … to below; None = no end."""

OUTCOMES: Final = (*(p.name for p in PHENOTYPES), MORTALITY, *LENGTHS)
"""In the order of the world's K = 33 outcomes."""
