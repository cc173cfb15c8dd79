"""The size that X-rays are stored at, from raw records to the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmnar import cli
from mmnar.dataset.store import open_store
from mmnar.errors import ConfigError
from mmnar.simulation.mimic_iv.release import CXR, write_mimic_iv

pytest.importorskip("PIL")


def test_images_are_stored_at_the_side_that_was_asked(tmp_path: Path) -> None:
    write_mimic_iv(tmp_path / "tree", 60, seed=0, images=True)
    root, cxr = tmp_path / "tree" / "mimiciv" / "3.1", tmp_path / "tree" / CXR
    cli.prepare.mimic_iv(root=root, cxr=cxr, image_side=48, out=tmp_path / "store")
    store = open_store(tmp_path / "store")
    assert {m.name: m.shape for m in store.schema.modalities}["cxr"] == (48, 48)
    films = store.values["cxr"].values  # type: ignore[union-attr]
    assert films.shape[1:] == (48, 48)
    assert np.ptp(films.astype(int), axis=(1, 2)).min() > 50  # a picture each
    for side, others in ((16, {"cxr": cxr}), (48, {}), (48, {"cxr": cxr, "embeddings": cxr})):
        with pytest.raises(ConfigError, match="--image-side"):
            cli.prepare.mimic_iv(root=root, image_side=side, out=tmp_path / "other", **others)
    assert not (tmp_path / "other").exists()
