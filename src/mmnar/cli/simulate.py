"""``mmnar simulate …``: raw record trees of simulated patients, one verb per release they look like."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mmnar.cli.apps import simulate


@simulate.command
def mimic_iv(
    *,
    patients: int,
    out: Path,
    seed: int = 0,
    gamma: float = 1.0,
    eta: float = 0.5,
    mcar: float = 0.0,
    images: bool = False,
    image_side: int | None = None,
    world: Literal["readmission", "carebench"] = "readmission",
) -> None:
    """MIMIC-IV 3.1 with notes, chest X-rays and released embeddings; exact risks in truth/, outside the records.

    Args:
        patients: How many.
        out: A new folder.
        seed: Of the patients; the world they live in stays the same.
        gamma: How strongly illness drives what is recorded; 0 = missing at random.
        eta: Direct effect of the pattern on outcomes.
        mcar: Share of patients whose pattern ignores their illness.
        images: Also write JPEG files (needs the extra 'images').
        image_side: Pixels of their side; 112, in the world of carebench 64, unless stated.
        world: 'readmission' asks mortality, readmission and return to intensive care; 'carebench' the 33 questions of
            that benchmark, with hourly series and films at all times.
    """
    from mmnar.simulation.carebench.release import write_carebench
    from mmnar.simulation.mimic_iv.release import write_mimic_iv

    write = write_carebench if world == "carebench" else write_mimic_iv
    write(out, patients, seed=seed, gamma=gamma, eta=eta, mcar=mcar, images=images, side=image_side)
    print(f"simulated records: {out}")


@simulate.command
def eicu(*, patients: int, out: Path, seed: int = 0, gamma: float = 1.0, eta: float = 0.5, mcar: float = 0.0) -> None:
    """eICU-CRD 2.0 with its ten virtual modalities; exact risks in truth/, outside the records.

    Args:
        patients: How many.
        out: A new folder.
        seed: Of the patients; the world they live in stays the same.
        gamma: How strongly illness drives what is recorded; 0 = missing at random.
        eta: Direct effect of the pattern on outcomes.
        mcar: Share of patients whose pattern ignores their illness.
    """
    from mmnar.simulation.eicu.release import write_eicu

    write_eicu(out, patients, seed=seed, gamma=gamma, eta=eta, mcar=mcar)
    print(f"simulated records: {out}")
