"""Notes per second of the small encoder at 256 and 512 tokens, of the cache and of hashing. Bar: 15 of 256 tokens.

    python benchmarks/notes.py [--threads 2]
    python benchmarks/notes.py --smallest      # a size that only shows that it runs

CPU seconds of all threads stand beside the wall clock: on a machine shared with other jobs only they mean anything.
Notes are made of common clinical words; one note is one segment of the length named.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mmnar.notes import HashedText, HashingSVD, TransformerEncoder, default_encoder, encode_cached

WORDS = (
    *("patient", "admitted", "with", "chest", "pain", "and", "fever", "started", "on", "aspirin", "heparin", "drip"),
    *("blood", "pressure", "stable", "lungs", "clear", "no", "effusion", "pneumonia", "edema", "renal", "failure"),
    *("improved", "overnight", "continue", "diuresis", "family", "meeting", "plan", "transfer", "to", "floor"),
)


def notes(n: int, words: int, seed: int) -> list[str]:
    """Distinct notes of about ``words`` words in sentences of twelve."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(WORDS, (n, words))
    sentences = [[" ".join(row[i : i + 12]).capitalize() + "." for i in range(0, words, 12)] for row in drawn]
    return [" ".join(note) for note in sentences]


def sized(encoder: TransformerEncoder, n: int, tokens: int) -> list[str]:
    """Notes of at most ``tokens`` tokens with special ones, and nearly so."""
    cut = []
    for text in notes(n, tokens, tokens):
        words = text.split()
        share = (tokens - 2) / encoder.count([text])[0]
        while encoder.count([" ".join(words)])[0] > tokens - 2:
            words = words[: max(1, int(len(words) * min(share, 0.99)))]
        cut.append(" ".join(words))
    return cut


def line(what: str, n: int, work: Callable[[], object], bar: float = 0.0) -> None:
    """Notes per second of ``work`` on n notes, by wall and by CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    verdict = f"bar {bar:g}/s {'met' if n / wall >= bar else 'NOT MET'}" if bar else ""
    print(f"{what:48} {n / wall:9.1f} notes/s {1000 * cpu / n:9.2f} CPU-ms/note  {verdict}", flush=True)


def transformer(n: int) -> None:
    short, long = default_encoder(device="cpu"), default_encoder(device="cpu", max_tokens=512)
    for encoder, tokens, bar in ((short, 256, 15.0), (long, 512, 0.0)):
        texts = sized(encoder, n, tokens)
        encoder.encode(texts[:2])
        line(f"all-MiniLM-L6-v2, notes of {tokens} tokens", n, partial(encoder.encode, texts), bar)
    with tempfile.TemporaryDirectory() as folder:
        texts = sized(short, n, 256)
        encode_cached(texts, short, Path(folder))
        line("the same, all of them in the cache", n, lambda: encode_cached(texts, short, Path(folder)))


def hashing(n: int) -> None:
    texts = notes(n, 200, 1)
    hashed = HashedText().encode(texts)
    arrays = (hashed.buckets, hashed.counts, hashed.starts)
    fitted = HashingSVD().fit(*arrays)
    line("hashing, notes of 200 words", n, lambda: HashedText().encode(texts))
    line(f"idf and SVD of rank 128 on {n} notes", n, lambda: HashingSVD().fit(*arrays))
    line("hashed notes to vectors", n, lambda: fitted.transform(*arrays))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    hashing(300 if arguments.smallest else 10_000)
    transformer(8 if arguments.smallest else 256)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MB")


if __name__ == "__main__":
    main()
