"""``python -m mmnar``."""

from mmnar.cli import main

main()
