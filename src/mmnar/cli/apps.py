"""The command and its groups. Every verb is in a file of its room; ``__init__`` gathers them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from cyclopts import App, Parameter

from mmnar import __version__
from mmnar.lock import alone

P = ParamSpec("P")
T = TypeVar("T")


def writes_out(verb: Callable[P, T]) -> Callable[P, T]:
    """While the verb runs nobody else may write into its ``out``; whoever comes second is refused at once."""

    @wraps(verb)
    def only_one(*args: P.args, **options: P.kwargs) -> T:
        out = options.get("out")
        if out is None or options.get("dry_run"):
            return verb(*args, **options)
        with alone(Path(str(out))):
            return verb(*args, **options)

    return only_one


app = App(
    name="mmnar",
    version=__version__,
    default_parameter=Parameter(
        negative_bool=(),
        negative_iterable=(),
        # an option that is off, empty or left out says so by itself
        show_default=lambda value: None if value is False or value in ("", ()) else value,
    ),
    help="Risk per patient when whole modalities are missing because clinicians decided so. Research use only.",
)
app.register_install_completion_command(help="Complete verbs and options in this shell: bash, zsh or fish.")
prepare = App(name="prepare", help="Raw records → a store any model can train on.")
app.command(prepare)
simulate = App(name="simulate", help="Raw records that look like a credentialed release, with known risks.")
app.command(simulate)
pretrain = App(name="pretrain", help="Records beside a store → weights that runs on it may start from.")
app.command(pretrain)
