from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from mmnar.errors import LeakageError, SchemaError, StoreError
from mmnar.predictions import concat, load
from mmnar.roles import Calibration, Test, subject_digests
from tests.conftest import SECRET


def assert_same(a, b):
    for f in fields(a):
        x, y = getattr(a, f.name), getattr(b, f.name)
        if isinstance(x, np.ndarray):
            assert x.dtype == y.dtype, f.name
            np.testing.assert_array_equal(x, y)
        elif f.name == "attributes":
            assert list(x) == list(y)
            for name in x:
                np.testing.assert_array_equal(x[name], y[name])
        elif f.name == "fitted_subjects":
            assert len(x) == len(y)
            for s, t in zip(x, y, strict=True):
                assert s.dtype == t.dtype == np.uint64
                np.testing.assert_array_equal(s, t)
        else:
            assert x == y, f.name


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("n", [300, 0])
def test_save_and_load_restore_exactly(draw, tmp_path, known, n):
    before = draw(n, Test, model="Modèle").also_fitted_on(np.array([2**64 - 1, 3], dtype=np.uint64))
    before = before if known else replace(before, bayes=None)
    path = tmp_path / "test.parquet"
    before.save(path)
    before.save(path)
    assert_same(before, load(path))
    assert [p.name for p in tmp_path.iterdir()] == ["test.parquet"]


def test_columns_are_plain(draw, tmp_path):
    import polars as pl

    draw(50, Test).save(tmp_path / "p.parquet")
    frame = pl.read_parquet(tmp_path / "p.parquet")
    assert {"subject_id", "pattern", "death.proba", "death.label", "los.bayes", "attribute:sex"} <= set(frame.columns)
    assert frame["pattern"].str.len_chars().unique().to_list() == [3]
    assert frame["death.label"].null_count() > 0


def test_other_files_are_refused(draw, tmp_path):
    import polars as pl

    with pytest.raises(StoreError, match="a file"):
        load(tmp_path / "nothing.parquet")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(StoreError, match="another file"):
        load(tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(StoreError, match="another file"):
        load(tmp_path / "text.parquet")


def folds(draw, k=3, n=100):
    parts = [draw(n, Test, seed=i, first_subject=i * 1000) for i in range(k)]
    keys = [p.subjects() for p in parts]
    others = [np.unique(np.concatenate([keys[j] for j in range(k) if j != i])) for i in range(k)]
    return [replace(p, fitted_subjects=(others[i],)) for i, p in enumerate(parts)], others


def test_concat_numbers_single_splits_and_keeps_their_records(draw, tmp_path):
    parts, others = folds(draw)
    joined = concat(parts)
    assert np.unique(joined.fold).tolist() == [0, 1, 2]
    for k in range(3):
        np.testing.assert_array_equal(joined.fitted_subjects[k], others[k])
        np.testing.assert_array_equal(joined.proba[joined.fold == k], parts[k].proba)
    joined.refuse_overlap()
    joined.save(tmp_path / "cv.parquet")
    assert_same(joined, load(tmp_path / "cv.parquet"))


def test_concat_keeps_fold_numbers(draw):
    parts, _ = folds(draw)
    joined = concat(parts)
    again = concat([joined.__class__(**_rows(joined, joined.fold == k)) for k in (2, 0, 1)])
    assert again.fold[0] == 2
    again.refuse_overlap()
    with pytest.raises(SchemaError, match="fold 0 twice"):
        concat([joined, parts[0]])


def _rows(p, rows):
    taken = {f.name: getattr(p, f.name) for f in fields(p)}
    for name in (
        "proba",
        "labels",
        "label_mask",
        "present",
        "subject_id",
        "subject_digest",
        "hadm_id",
        "stay_id",
        "prediction_time",
    ):
        taken[name] = taken[name][rows]
    return {
        **taken,
        "fold": p.fold[rows],
        "bayes": p.bayes[rows],
        "attributes": {a: v[rows] for a, v in p.attributes.items()},
    }


def test_concat_refuses_unlike_parts(draw):
    a, b = draw(50, Test), draw(50, Test, first_subject=1000)
    for other in (draw(50, Calibration, first_subject=1000), draw(50, Test, tasks=("x",)), replace(b, attributes={})):
        with pytest.raises(SchemaError):
            concat([a, other])
    with pytest.raises(SchemaError):
        concat([])
    with pytest.raises(LeakageError, match="in several"):
        concat([a, draw(50, Test, first_subject=49)])


def test_a_fold_without_a_record_is_a_leak(draw):
    p = draw(50, Test)
    with pytest.raises(LeakageError, match="no record"):
        replace(p, fold=p.fold + 1).refuse_overlap()


@pytest.mark.parametrize("known", [True, False])
def test_without_leaves_the_samples_of_all_other_subjects(draw, known):
    before = draw(300, Test)
    before = before if known else replace(before, bayes=None)
    some = np.unique(before.subject_id)[::3]
    after = before.without(np.append(subject_digests(some, SECRET), np.uint64(before.key_mark)))
    kept = np.flatnonzero(~np.isin(before.subject_id, some))
    assert 0 < len(after) == len(kept) < 300
    np.testing.assert_array_equal(after.proba, before.proba[kept])
    assert after.to_frame().equals(before.to_frame()[kept])
