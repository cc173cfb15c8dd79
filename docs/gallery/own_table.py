"""A table of your own.

One row a patient, columns that are measured together or not at all, and an outcome. A short description says which is
which; what was understood of every column is shown before anything is written, and what is not clear is refused.
"""

from pathlib import Path

import numpy as np
import polars as pl
from ward import rows

import mmnar
from mmnar.cli import prepare

DESCRIPTION = """
name: clinic
files: clinic.csv
subject: patient
outcomes: {returned: came_back}
modalities: {seen: [age, pulse], blood: [lactate, creatinine]}
"""

rng = np.random.default_rng(0)
ill = rng.normal(size=2000)
drawn = rng.random(2000) < 1 / (1 + np.exp(-ill))  # blood is drawn from whom one worries about
age, pulse = rng.integers(20, 90, 2000), (80 + 6 * ill + rng.normal(0, 9, 2000)).round()
blood = {name: pl.Series(name, (ill + rng.normal(size=2000)).round(1)) for name in ("lactate", "creatinine")}
frame = pl.DataFrame({"patient": range(2000), "age": age, "pulse": pulse, **blood, "drawn": drawn})
frame = frame.with_columns(pl.when("drawn").then(pl.col(name)).alias(name) for name in blood).drop("drawn")
frame.with_columns(came_back=pl.Series(rng.random(2000) < 1 / (1 + np.exp(1.5 - ill)))).write_csv("clinic.csv")
Path("clinic.yaml").write_text(DESCRIPTION)
prepare.table(Path("clinic.yaml"), out=Path("clinic"))  # $ mmnar prepare table clinic.yaml --out clinic

ward = mmnar.open_store("clinic")
split = mmnar.Split.by_subject(ward, test=0.5)
methods = (mmnar.estimator("logistic-pattern"), mmnar.estimator("pattern-only"))
fits = [mmnar.cross_fit(method, ward.fold(split, "development")).predictor for method in methods]
result = mmnar.evaluate(*(fit.predict(ward.fold(split, "test")) for fit in fits), resamples=200)
rows("own_table.svg", "AUROC, came back", {m: of.metrics["auroc"] for m, of in result.tasks["returned"].items()})
