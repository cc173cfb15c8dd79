"""Is missingness informative?

Four wards of the same patients. In the first nobody looks at illness before ordering, in the last everybody does. The
test given what is always observed tells them apart; the AUROC of the pattern alone says how far knowing who was
measured gets.
"""

from ward import lines, patients

from mmnar.evaluation.informative import informativeness

found = {}
for gamma in (0.0, 0.25, 0.5, 1.0):
    ward = patients(2000, gamma=gamma, eta=0.0)
    found[gamma] = informativeness(ward, permutations=200, resamples=50).tasks
    for task, signal in found[gamma].items():
        alone, beyond = signal.pattern_auroc.value, signal.conditional.p
        print(f"γ = {gamma:4}: {task:14} AUROC of the pattern alone {alone:.2f}; beyond what is seen, p = {beyond:.3f}")

drawn = {t: (list(found), [s[t].pattern_auroc.value for s in found.values()]) for t in found[1.0]}
lines("informative.svg", "how strongly illness drives orders (γ)", "AUROC of the pattern alone", drawn)
