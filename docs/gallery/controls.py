"""A method, plain controls, and the exact risks.

Simulated patients have a known risk. So the question is not "which number is higher?" but "how much of what can be had
is left?": the AUROC of the exact risks less that of a method, without the chance in labels.
"""

from ward import patients, rows, strangers

import mmnar

QUICK = ("train.min_steps=150", "train.batch_size=128", "train.lr=0.002", "model.width=32")

learned, fresh = patients(1500, seed=0), patients(2000, seed=1)
development = learned.fold(mmnar.Split(test=0.0), "development")
scored = []
for name in ("pattern-only", "logistic-pattern", "crl-mmnar"):
    recipe = mmnar.estimator(name, *(QUICK if name == "crl-mmnar" else ()))
    fitted = mmnar.cross_fit(recipe, development, folds=2)
    scored.append(fitted.predictor.predict(strangers(fresh, learned)))

result = mmnar.evaluate(*scored, controls=["pattern-only", "logistic-pattern"], resamples=200)
left = {name: of.metrics["auroc_gap_to_bayes"] for name, of in result.tasks["mortality"].items()}
for name, gap in left.items():
    print(f"{name:18} AUROC left to the exact risks: {gap.value:.3f} ({gap.low:.3f} to {gap.high:.3f})")
for c in result.comparisons:
    if c.task == "mortality" and c.metric == "auroc":
        print(f"{c.model} − {c.control}: {c.difference.value:+.3f}, p after Holm {c.p_holm:.3f}")
rows("controls.svg", "AUROC left to the exact risks, mortality (0: nothing left)", left, 0.0)
