"""Do clinicians order otherwise in another ward?

No outcome is looked at. ρ compares like patients: about 1, they are chosen as at home; 0, whatever made clinicians
order at home does not count there; below 0, they choose the other way round. Rates alone cannot tell the three apart.
"""

from ward import patients, rows

from mmnar.evaluation.shift import shift

home = patients(3000, seed=0)
wards = {
    "same habits": patients(2000, seed=1),
    "orders more of everything": patients(2000, seed=1, rate_shift=1.0),
    "orders by chance": patients(2000, seed=1, mcar=1.0),
    "orders for the healthier": patients(2000, seed=1, gamma=-1.0),
}
chosen = {}
for name, ward in wards.items():
    found = shift(home, ward, resamples=100)
    chosen[name] = found.rho
    rates = ", ".join(f"{m.modality} {m.source.value:.2f} → {m.target.value:.2f}" for m in found.modalities[1:])
    print(f"{name}: ρ {found.rho.value:.2f} ({found.rho.low:.2f} to {found.rho.high:.2f}); {rates}")
rows("shift.svg", "ρ: are like patients chosen alike?", chosen)
