"""The command and its groups. Every verb is in a file of its room; ``__init__`` gathers them."""

from __future__ import annotations

from cyclopts import App

from mmnar import __version__

app = App(
    name="mmnar",
    version=__version__,
    help="Risk per patient when whole modalities are missing because clinicians decided so. Research use only.",
)
prepare = App(name="prepare", help="Raw records → a store any model can train on.")
app.command(prepare)
simulate = App(name="simulate", help="Raw records that look like a credentialed release, with known risks.")
app.command(simulate)
