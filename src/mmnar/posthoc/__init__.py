"""Corrections fitted on calibration predictions only: global calibration, pattern rectifier."""

from mmnar.posthoc.base import Correction, FittedCorrection, Offset
from mmnar.posthoc.calibrate import FittedPlatt, Platt
from mmnar.posthoc.chain import Chain, FittedChain, restore
from mmnar.posthoc.rectify import FittedLattice, FittedThreshold, LatticeRectifier, ThresholdRectifier

__all__ = [
    "Chain",
    "Correction",
    "FittedChain",
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
