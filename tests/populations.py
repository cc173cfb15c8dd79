"""The populations on which outsiders' methods are checked, for the tests of everything else."""

from __future__ import annotations

from mmnar.testing.populations import MIXED as MIXED
from mmnar.testing.populations import PANELS as PANELS
from mmnar.testing.populations import SCHEMA as SCHEMA
from mmnar.testing.populations import mixed_population as mixed_population
from mmnar.testing.populations import paneled as paneled
from mmnar.testing.populations import population as population
