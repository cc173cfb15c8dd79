"""``python -m mmnar.cli``."""

from mmnar.cli import main

main()
