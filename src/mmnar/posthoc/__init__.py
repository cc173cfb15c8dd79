"""Corrections of risks, fitted on calibration predictions only: Platt's line, pattern rectifiers."""

from mmnar.posthoc.base import Correction, FittedCorrection, Offset
from mmnar.posthoc.platt import FittedPlatt, Platt
from mmnar.posthoc.rectify import FittedLattice, FittedThreshold, LatticeRectifier, ThresholdRectifier
from mmnar.posthoc.saved import restore

__all__ = [
    "Correction",
    "FittedCorrection",
    "FittedLattice",
    "FittedPlatt",
    "FittedThreshold",
    "LatticeRectifier",
    "Offset",
    "Platt",
    "ThresholdRectifier",
    "restore",
]
