"""Notes: cleaned, cut into segments, turned into vectors, kept by content; or hashed where no encoder is installed."""

from mmnar.notes.cache import encode_cached, iterate_cached
from mmnar.notes.clean import clean
from mmnar.notes.encoder import BIO_CLINICAL_BERT, TextEncoder, TransformerEncoder, default_encoder, text_encoder
from mmnar.notes.hashing import FittedHashing, HashedNotes, HashedText, HashingSVD

__all__ = [
    "BIO_CLINICAL_BERT",
    "FittedHashing",
    "HashedNotes",
    "HashedText",
    "HashingSVD",
    "TextEncoder",
    "TransformerEncoder",
    "clean",
    "default_encoder",
    "encode_cached",
    "iterate_cached",
    "text_encoder",
]
