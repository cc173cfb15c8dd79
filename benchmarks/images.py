"""Embeddings packed and images decoded per second; what the image encoder costs, needs of memory and learns from
simulated films.

python benchmarks/images.py
python benchmarks/images.py --smallest

The files are written just before they are read, so they come from memory: a network file system is slower.
"""

from __future__ import annotations

import argparse
import resource
import struct
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from PIL import Image

from mmnar.encoders.image import ImageEncoder
from mmnar.encoders.settings import Backbone, ImageConfig
from mmnar.images.pixels import Undecoded, read_images
from mmnar.images.tfrecord import WIDTH, masked_crc32c, pack_embeddings
from mmnar.models.zero_fill import ZeroFill
from mmnar.schema import ModalitySpec, Schema, Task
from mmnar.simulation.images import chest_images
from mmnar.training.loop import evaluate_loss
from mmnar.types import Content, Items, PatientBatch

SIDE = 224
FULL_SIZE = (2544, 3056)
"""Columns and rows of the commonest image of MIMIC-CXR-JPG."""


def record(values: np.ndarray) -> bytes:
    """A TFRecord file of one tf.Example with the feature ``embedding``."""

    def field(number: int, content: bytes) -> bytes:
        # every length here takes two bytes
        return bytes([number << 3 | 2, len(content) & 0x7F | 0x80, len(content) >> 7]) + content

    key = b"\x0a\x09embedding"
    payload = field(1, field(1, key + field(2, field(2, field(1, values.astype("<f4").tobytes())))))

    def checksum(data: bytes) -> bytes:
        return struct.pack("<I", masked_crc32c(np.frombuffer(data, np.uint8)[None])[0])

    length = struct.pack("<Q", len(payload))
    return length + checksum(length) + payload + checksum(payload)


def release(root: Path, n: int) -> None:
    """``n`` embedding files, a thousand different ones in turn."""
    rng = np.random.default_rng(0)
    files = [record(rng.normal(size=WIDTH)) for _ in range(min(n, 1000))]
    for i in range(n):
        subject = 10_000_000 + i // 6 * 13
        folder = root / "files" / f"p{str(subject)[:2]}" / f"p{subject}" / f"s{50_000_000 + i // 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:08x}.tfrecord").write_bytes(files[i % len(files)])


def decoded_per_second(paths: Sequence[Path], workers: int) -> float:
    start = time.perf_counter()
    bad = sum(isinstance(image, Undecoded) for image in read_images(paths, SIDE, workers))
    assert not bad
    return len(paths) / (time.perf_counter() - start)


def pictures(folder: Path, size: tuple[int, int], n: int) -> list[Path]:
    """The same smooth picture under ``n`` names."""
    small = np.random.default_rng(0).integers(0, 256, (61, 51)).astype(np.uint8)
    first = folder / f"{size[0]}.jpg"
    Image.fromarray(small).resize(size).save(first, quality=95)
    return [first] * n


def step_seconds(backbone: Backbone, n: int) -> float:
    """Forward and backward of ``n`` images."""
    encoder = ImageEncoder(SIDE, 128, config=ImageConfig(backbone))
    images = torch.randint(0, 256, (n, SIDE, SIDE), dtype=torch.uint8)
    encoder.vectors(images[:1]).sum().backward()  # type: ignore[no-untyped-call]
    start = time.perf_counter()
    encoder.vectors(images).sum().backward()  # type: ignore[no-untyped-call]
    return time.perf_counter() - start


def evaluated(films: int) -> float:
    """Seconds for the loss of a tune fold of so many films of full size, as the training loop reckons it."""
    schema = Schema((ModalitySpec("film", kind="image", shape=(SIDE, SIDE)),), (Task("death", "", ""),))
    pixels = torch.randint(0, 256, (films, SIDE, SIDE), dtype=torch.uint8)
    everyone = torch.ones(films, 1, dtype=torch.bool)
    content: dict[str, Content] = {"film": Items(torch.arange(films + 1), torch.zeros(films), pixels)}
    tune = PatientBatch(schema, content, everyone, torch.zeros(films, 1), everyone, torch.arange(films))
    start = time.perf_counter()
    evaluate_loss(ZeroFill(schema, ZeroFill.Config()), tune)
    return time.perf_counter() - start


def learned(films: int, epochs: int, seed: int) -> list[float]:
    """R² of each content of other simulated films of 32 × 32, of the tiny ResNet trained on so many."""

    def drawn(n: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng([seed, number])
        shows = rng.standard_normal((n, 5))
        return torch.from_numpy(chest_images(shows, np.zeros(n, bool), 32, rng)), torch.from_numpy(shows).float()

    (pixels, shows), (others, truth) = drawn(films, 0), drawn(500, 1)
    torch.manual_seed(seed)
    encoder = ImageEncoder(32, 5, config=ImageConfig("tiny", augment="none")).train()
    optimizer = torch.optim.AdamW(encoder.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * -(-films // 16))
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(films), 16):
            loss = (encoder.vectors(pixels[rows]) - shows[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        errors = (encoder.eval().vectors(others) - truth).square().sum(0)
    return (1 - errors / (truth - truth.mean(0)).square().sum(0)).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true")
    smallest = parser.parse_args().smallest
    torch.set_num_threads(1)
    embeddings, images, batch = (1000, 10, 2) if smallest else (40_000, 400, 16)
    # first, since the peak is that of the whole process
    films = 70 if smallest else 4096
    print(f"tune fold of {films:,} films of {SIDE} x {SIDE}, resnet10: {evaluated(films):.0f} s (one thread)")
    print(f"  peak memory: {peak():.2f} GiB")
    assert peak() < 2
    start = time.process_time()
    told = learned(*(800, 6) if smallest else (4000, 10), seed=0)
    print(f"R2 of the five contents of films of 32 x 32, tiny: {' '.join(f'{r:.2f}' for r in told)}")
    print(f"  trained and told in {time.process_time() - start:.0f} s")
    assert np.mean(told) > 0.5 if smallest else min(told) > 0.85
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        release(root / "release", embeddings)
        start = time.perf_counter()
        packed = pack_embeddings(root / "release", root / "packed")
        seconds = time.perf_counter() - start
        assert packed.index.height == embeddings
        print(f"embeddings packed: {embeddings / seconds:,.0f} a second ({embeddings:,} files)")
        start = time.perf_counter()
        pack_embeddings(root / "release", root / "packed")
        print(f"  found packed already: {time.perf_counter() - start:.1f} s")
        print(f"  peak memory: {peak():.2f} GiB")
        decoded_per_second(pictures(root, (320, 320), 2), 1)  # the first call imports
        for size in ((320, 390), FULL_SIZE):
            rate = decoded_per_second(pictures(root, size, images), workers=2)
            print(f"JPG of {size[0]} x {size[1]} to {SIDE} x {SIDE}: {rate:,.0f} a second (2 threads)")
    print(f"  peak memory: {peak():.2f} GiB")
    for backbone in ("resnet10", "tiny") if smallest else get_args(Backbone):
        print(f"{backbone}: {step_seconds(backbone, batch) / batch:.3f} s per image and step (one thread)")
    print(f"  peak memory: {peak():.2f} GiB")


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
