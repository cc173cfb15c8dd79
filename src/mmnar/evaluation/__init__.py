"""Metrics, intervals, comparisons: recomputed from stored Predictions[Test], never from a model."""
