"""What if a modality goes missing?

A machine fails for more and more of the test patients, whoever they are. The regression that sees the pattern takes
absence for a decision; the one that does not see it does not, and knows less from the start. ``mmnar stress RUN`` asks
the same of a run, with intervals, by chance, by severity or by another site's habits.
"""

import numpy as np
from ward import lines, patients

import mmnar

METHODS = {
    "regression, sees the pattern": ("logistic-pattern",),
    "regression, does not": ("logistic-pattern", "model.append_pattern=false"),
    "pattern alone": ("pattern-only",),
}

ward = patients(4000, eta=0.5)
split = mmnar.Split.by_subject(ward, seed=0, test=0.5)
order = np.random.default_rng(0).random(len(ward))
shares = (0.0, 0.25, 0.5, 0.75, 1.0)
kept = {}
for name, (method, *settings) in METHODS.items():
    fitted = mmnar.cross_fit(mmnar.estimator(method, *settings), ward.fold(split, "development"), folds=2)
    risks = [fitted.predictor.predict(ward.hiding("m3", order < s).fold(split, "test")) for s in shares]
    judged = [mmnar.evaluate(of, resamples=1).tasks["icu_admission"][method] for of in risks]
    kept[name] = (shares, [of.metrics["auroc"].value for of in judged])
    print(f"{name:30}", *(f"{value:.3f}" for value in kept[name][1]))
lines("stress.svg", "share of patients from whom m3 is hidden", "AUROC, icu_admission", kept)
