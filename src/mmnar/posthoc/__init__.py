"""Corrections fitted on calibration predictions only: global calibration, pattern rectifier."""
