"""A raw tree like MIMIC-IV in which CareBench's cohort, questions and models can be tested: see ``release``."""
