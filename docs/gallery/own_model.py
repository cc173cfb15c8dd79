"""A model of your own.

Two dozen lines (``mean_fusion.py`` beside this script), and it takes its place beside the methods that come along: the
same folds, training and judgement. ``module:Class`` is its name wherever a method has one.
"""

from ward import patients, rows, strangers

import mmnar

QUICK = ("train.min_steps=100", "train.batch_size=128", "train.lr=0.002")

learned, fresh = patients(1500, seed=0), patients(2000, seed=1)
development = learned.fold(mmnar.Split(test=0.0), "development")
methods = {
    "mean_fusion:MeanFusion": (*QUICK, "model.width=32"),
    "logistic-pattern": (),
    "pattern-only": (),
}
scored = []
for name, settings in methods.items():
    fitted = mmnar.cross_fit(mmnar.estimator(name, *settings), development, folds=2)
    scored.append(fitted.predictor.predict(strangers(fresh, learned)))

result = mmnar.evaluate(*scored, controls=["logistic-pattern"], resamples=200)
auroc = {name: of.metrics["auroc"] for name, of in result.tasks["icu_admission"].items()}
for name, value in auroc.items():
    print(f"{name:24} AUROC {value.value:.3f} ({value.low:.3f} to {value.high:.3f})")
rows("own_model.svg", "AUROC, icu_admission", auroc)
