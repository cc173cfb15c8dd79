"""A table of your own.

One row a patient, columns that are measured together or not at all, and an outcome. A short description says which is
which; ``mmnar prepare table`` takes the same of a file, and shows how it understood each column before it writes.
"""

import numpy as np
import polars as pl
from ward import rows

import mmnar

DESCRIPTION = {
    "name": "clinic",
    "subject": "patient",
    "outcomes": {"returned": "came_back"},
    "modalities": {"seen": ["age", "pulse"], "blood": ["lactate", "creatinine"]},
}

rng = np.random.default_rng(0)
ill = rng.normal(size=2000)
drawn = rng.random(2000) < 1 / (1 + np.exp(-ill))  # blood is drawn from whom one worries about
columns = {"patient": range(2000), "age": rng.integers(20, 90, 2000), "pulse": (80 + 6 * ill).round()}
blood = {name: np.where(drawn, (ill + rng.normal(size=2000)).round(1), np.nan) for name in ("lactate", "creatinine")}
came_back = rng.random(2000) < 1 / (1 + np.exp(1.5 - ill))
ward = mmnar.from_frame(pl.DataFrame({**columns, **blood, "came_back": came_back}), DESCRIPTION)

print(*ward.manifest["warnings"], sep="\n")
split = mmnar.Split.by_subject(ward, test=0.5)
methods = (mmnar.estimator("logistic-pattern"), mmnar.estimator("pattern-only"))
fits = [mmnar.cross_fit(method, ward.fold(split, "development")).predictor for method in methods]
result = mmnar.evaluate(*(fit.predict(ward.fold(split, "test")) for fit in fits), resamples=200)
auroc = {method: of.metrics["auroc"] for method, of in result.tasks["returned"].items()}
print(
    *(f"{name}: AUROC {value.value:.2f} ({value.low:.2f} to {value.high:.2f})" for name, value in auroc.items()),
    sep="\n",
)
rows("own_table.svg", "AUROC, came back", auroc)
