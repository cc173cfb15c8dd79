"""Simulated raw records: folders that look like the credentialed releases, from patients whose exact risks are known.

``mimic_iv`` and ``eicu`` say what is in them; ``docs/simulated-trees.md`` says it for users.
"""
