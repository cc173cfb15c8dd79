"""Is it worth alerting?

Net benefit: patients found, less false alarms at the price which the threshold names, per patient. A model is of use
where it is above alerting everyone and alerting nobody, at a threshold that somebody would use.
"""

from ward import lines, patients

import mmnar
from mmnar.evaluation.thresholds import stated

ward = patients(6000)
split = mmnar.Split.by_subject(ward, seed=0)
scored = []
for name in ("pattern-only", "logistic-pattern"):
    fitted = mmnar.cross_fit(mmnar.estimator(name), ward.fold(split, "development"), folds=2)
    scored.append(fitted.predictor.predict(ward.fold(split, "test")))
at = {"icu_admission": stated((0.2, 0.1, 0.3), "icu_admission")}
result = mmnar.evaluate(*scored, resamples=200, thresholds=at)

drawn = {}
for name, model in result.tasks["icu_admission"].items():
    shown = [p for p in model.decided.points if p.figures["net_benefit"].value is not None]
    points = sorted(shown, key=lambda p: p.threshold)
    drawn[name] = ([p.threshold for p in points], [p.figures["net_benefit"].value for p in points])
    for p in points:
        if p.kind == "stated":
            found, right = p.figures["sensitivity"].value, p.figures["ppv"].value
            print(f"{name}, alerts from {p.threshold:.0%} on: {right:.0%} of them right, {found:.0%} of events found")
everyone = result.decisions["icu_admission"].everyone
drawn["alert everyone"] = ([t for t, _ in everyone], [e.value for _, e in everyone])
lines("decision_curve.svg", "threshold: alert from this risk on", "net benefit", drawn)
