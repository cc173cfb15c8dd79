"""``mmnar pretrain …``: weights of an encoder from records beside a store's."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mmnar.cli.apps import pretrain


@pretrain.command
def images(
    *overrides: str,
    cxr: Path,
    store: Path,
    out: Path,
    label_file: Literal["chexpert", "negbio"] = "chexpert",
    outside: bool = False,
    embeddings: Path | None = None,
) -> None:
    """An image encoder, on films of all patients but the store's test patients, with the 14 findings of their reports.
    For runs with model.image.weights=FILE, whose test fold must be the one left out here.

    Args:
        overrides: Such as split.tune=.1 split.test=.2 (as of the runs), model.image.backbone=resnet34, train.lr=1e-4 or
            preset=original.
        cxr: Folder of MIMIC-CXR-JPG: files of all views, metadata, labels. Uncertain and unmentioned findings are
            masked: unknown, not absent, unless nothing was found in the film.
        store: A prepared store with films: its split, their size. Under its key the file remembers whom it has seen.
        out: The file of weights to write, .safetensors. Interrupted, the same command goes on.
        label_file: Whose labels: mimic-cxr-2.0.0-chexpert or -negbio.
        outside: Only films of patients who are not in the store at all. Without it the weights have seen the patients
            that runs are fitted on, and nothing can be scored out of fold: such runs need fit=single
            rectifier.rule=none.
        embeddings: Folder of the released embeddings, read in place of the images, which then need not be there; for a
            store prepared with --embeddings. Runs must have the same model.width.
    """
    from mmnar.training.monitor import shown
    from mmnar.workflow.pretrain import pretrain_images

    with shown() as monitor:
        made = pretrain_images(
            cxr,
            store,
            out,
            overrides,
            labeller=label_file,
            outside=outside,
            embeddings=embeddings,
            monitor=monitor,
        )
    for line in made.told:
        print(line)
    print(f"{len(made.findings)} findings, tune loss {made.tune_loss:.4f} → {made.file}")
