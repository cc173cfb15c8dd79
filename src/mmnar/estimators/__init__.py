"""Recipes (Estimator) and fitted things (Predictor) under one contract."""
