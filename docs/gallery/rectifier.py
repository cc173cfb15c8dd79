"""Offsets by pattern.

A regression that does not see the pattern is wrong by pattern. The rectifier moves the risks of a pattern by what its
patients fared otherwise, out of fold; a pattern that few have borrows from those that differ by one modality. The
published rule adds each pattern's own mean, however few patients it is of.
"""

from ward import lines, patients

import mmnar

ward = patients(4000, modalities=6, eta=1.0)
split = mmnar.Split.by_subject(ward, seed=0)
blind = mmnar.estimator("logistic-pattern", "model.append_pattern=false")
fitted = mmnar.cross_fit(blind, ward.fold(split, "development"), folds=3)
scored = fitted.predictor.predict(ward.fold(split, "test"))

lattice = mmnar.LatticeRectifier().fit(fitted.out_of_fold)
threshold = mmnar.ThresholdRectifier(kappas=(0.0,)).fit(fitted.out_of_fold)
for what, fitted_offsets in {"as they are": None, "lattice": lattice, "mean of each pattern": threshold}.items():
    risks = scored.proba if fitted_offsets is None else fitted_offsets.apply(scored).proba
    model = mmnar.evaluate(scored.with_proba(risks, model=what), resamples=1).tasks["mortality"][what]
    print(f"{what:20} KL divergence from the exact risks {model.metrics['kl_to_bayes'].value:.4f}")

rank = sorted(lattice.offsets["mortality"], key=lambda o: o.value)
drawn = {
    what: (range(len(rank)), [getattr(o, part) for o in rank])
    for what, part in {"offset": "value", "90 % interval, low": "low", "90 % interval, high": "high"}.items()
}
lines("rectifier.svg", "patterns, from lowest to highest offset", "offset, log odds", drawn)
