"""The 25 phenotypes of the MIMIC benchmarks: groups of billing codes of one admission. Labels, never inputs.

The groups are categories of the Clinical Classifications Software (HCUP, AHRQ): of ICD-9-CM as of 2015, of ICD-10-CM as
of 2019 (``codes/phenotypes.csv``; its origin is in ``codes/README.md``). Chosen by Harutyunyan et al. 2019,
doi:10.1038/s41597-019-0103-9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import polars as pl
import yaml

from mmnar.errors import SourceError
from mmnar.sources.mimic_iv.icd import tidied
from mmnar.sources.mimic_iv.register import Register, as_events
from mmnar.sources.reading.code_tables import code_table

TABLE: Final = "diagnoses_icd"
_VERSIONS: Final = (9, 10)


@dataclass(frozen=True)
class Phenotype:
    """A group of billing codes.

    Args:
        name: Short, in small letters.
        ccs: Category of the Clinical Classifications Software.
        kind: ``acute``, ``chronic`` or ``mixed``.
        description: In words.
        prefixes: Version of ICD → beginnings of its codes; ``=CODE`` is that code alone.
    """

    name: str
    ccs: int
    kind: str
    description: str
    prefixes: Mapping[int, tuple[str, ...]]

    @property
    def code(self) -> str:
        """Code of the event that an admission was billed for it."""
        return f"PHENOTYPE//{self.name.upper()}"

    def holds(self, version: pl.Expr, code: pl.Expr) -> pl.Expr:
        """Whether a code belongs to it; ``code`` as ``icd.tidied`` writes it."""
        return pl.any_horizontal((version == v) & _begins(code, of) for v, of in self.prefixes.items())


def _begins(code: pl.Expr, prefixes: tuple[str, ...]) -> pl.Expr:
    whole = [p.removeprefix("=") for p in prefixes if p.startswith("=")]
    begins = [code.str.starts_with(p) for p in prefixes if not p.startswith("=")]
    return pl.any_horizontal(code.is_in(whole), *begins)


Codes = Mapping[str, Sequence[str]]
"""Name of a phenotype → its codes by another list, of either version."""


def phenotypes(codes: Codes | None = None) -> tuple[Phenotype, ...]:
    """All 25, in the order of the table.

    Args:
        codes: By another list (see ``read_list``); None = by the table.
    """
    own = tuple(
        Phenotype(
            row["phenotype"].lower(),
            int(row["ccs"]),
            row["type"],
            row["description"],
            {version: tuple(row[f"icd{version}"].split(";")) for version in _VERSIONS},
        )
        for row in code_table("phenotypes")
    )
    if codes is None:
        return own
    exact = {name: tuple(f"={code}" for code in of) for name, of in codes.items()}
    by_list = [dict.fromkeys(_VERSIONS, exact[p.name]) for p in own]
    return tuple(
        replace(p, description=f"{p.description}, by another list", prefixes=of)
        for p, of in zip(own, by_list, strict=True)
    )


def read_list(path: Path) -> dict[str, list[str]]:
    """Codes of the 25 groups by another list: a YAML file of ``DESCRIPTION: {codes: [...]}``, ICD-9 and ICD-10
    together, as benchmarks of MIMIC release theirs; groups of other descriptions are passed over.

    Raises:
        SourceError: No such file, or one of the 25 is not in it by its description, or has no codes in quotes.
    """
    where = f"phenotypes '{path.name}'"
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise SourceError(where, "a YAML file of groups", type(error).__name__, "check the path") from None
    there = {_plain(str(name)): of for name, of in raw.items()} if isinstance(raw, dict) else {}
    found = {}
    for phenotype in phenotypes():
        of = there.get(_plain(phenotype.description))
        codes = of.get("codes") if isinstance(of, dict) else of
        if not isinstance(codes, list) or not codes or not all(isinstance(code, str) for code in codes):
            expected = f"codes in quotes of '{phenotype.description}'"
            raise SourceError(where, expected, "no such group" if of is None else "none", "complete the list")
        found[phenotype.name] = sorted({code.strip().upper().replace(".", "") for code in codes})
    return found


def _plain(description: str) -> str:
    return "".join(letter for letter in description.lower() if letter.isalnum())


def billed(register: Register, diagnoses: pl.DataFrame) -> pl.DataFrame:
    """``subject_id, hadm_id, icd_version, icd_code`` of known admissions, distinct; what is left out is counted."""
    coded = tidied(register.of_subjects(diagnoses), TABLE, register.ledger)
    key = ["subject_id", "hadm_id"]
    known = coded.join(register.admissions, on=key, how="semi")
    register.ledger.drop(TABLE, coded.height - known.height, "rows dropped: no such admission of the subject")
    register.ledger.made(TABLE, known.height)
    return known.select(*key, "icd_version", "icd_code").unique(maintain_order=True)


def phenotype_events(codes: pl.DataFrame, over: pl.DataFrame, groups: Sequence[Phenotype]) -> pl.DataFrame:
    """One event per admission and phenotype it was billed for, when the admission was over.

    Args:
        codes: See ``billed``.
        over: ``subject_id, hadm_id, time``: when each admission was over by any account of it. By its discharge alone
            a code could lie before the death of a patient who is discharged, on paper, the midnight before.
        groups: The phenotypes.
    """
    kinds = codes.select("icd_version", "icd_code").unique(maintain_order=True)
    version, code = pl.col("icd_version"), pl.col("icd_code")
    pairs = pl.concat(
        kinds.filter(phenotype.holds(version, code)).with_columns(code=pl.lit(phenotype.code)) for phenotype in groups
    )
    members = (
        codes.join(pairs, on=["icd_version", "icd_code"])
        .select("subject_id", "hadm_id", "code")
        .unique(maintain_order=True)
        .join(over, on=["subject_id", "hadm_id"])
        .with_columns(available_time=pl.col("time"))
    )
    return as_events(members, TABLE, pl.col("code"))
