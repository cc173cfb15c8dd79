"""The conformance suite, for methods of other packages: what every method of this package keeps, on populations made
here. ``check_model(Mine)`` and ``check_estimator(Mine())`` raise AssertionError with the name of the first promise that
is broken; ``model_checks`` and ``estimator_checks`` give the checks one by one. pytest is not needed."""

from mmnar.testing.checks import Check
from mmnar.testing.estimators import check_estimator, estimator_checks
from mmnar.testing.models import check_model, model_checks

__all__ = ["Check", "check_estimator", "check_model", "estimator_checks", "model_checks"]
