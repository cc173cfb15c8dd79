"""From a population whose exact risks are known to data: the other direction than ``sources``.

``population`` draws patients, ``events`` and ``questions`` turn them into a cohort, ``planted`` makes small data sets
with one mechanism each, ``mimic_iv`` and ``eicu`` write raw trees that look like the credentialed releases,
``carebench`` one like MIMIC-IV of a world of its own (described for users in ``docs/simulated-trees.md``). Readers of
raw records never import from here.
"""
