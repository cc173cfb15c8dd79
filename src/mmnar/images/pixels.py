"""Image files → grey squares: JPG, PNG and DICOM, whatever their size and depth.

1. **Grey values.** A DICOM's stored values go through its rescale slope and intercept. 8-bit colour becomes luma.
2. **Intensity** to [0, 1]: by the DICOM's window where it has one (the first; values beyond it are clipped; a sigmoid
   one as if it were linear); else, where a pixel has more than 8 bits, by the 0.5th and 99.5th percentile (clipped:
   burnt-in markers and dead pixels would otherwise set the scale); else by the darkest and the brightest pixel.
   MONOCHROME1 (0 is white) is inverted, so that bone is bright in every image.
3. **Size.** The longer side becomes ``side`` by averaging areas, the aspect ratio stays, and black margins are added on
   both sides of the shorter one: nothing of the chest is cut off, no heart is made wider than it is. A JPG may be
   decoded at the smallest of 1/2, 1/4 or 1/8 of its size that is still at least twice ``side``.

What cannot be decoded is returned as ``Undecoded`` with a reason that can be counted, and never stops a run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.errors import RequirementError, SourceError

PERCENTILES: Final = (0.5, 99.5)
"""Between these, images of more than 8 bits are stretched."""


@dataclass(frozen=True)
class Undecoded:
    """In place of an image. ``reason``: words that a count can stand before; no path in them."""

    reason: str


class _UndecodableError(Exception):
    """Why an image has no pixels for us."""


def read_image(path: Path, side: int) -> NDArray[np.uint8]:
    """One image, (side, side) uint8: 0 black, 255 white.

    Args:
        path: A JPG, PNG or DICOM file; what it is is told by its content.
        side: Pixels of the square.

    Raises:
        SourceError: The file is absent, damaged or of a kind that is not read (the path, which may name a patient, is
            not told).
        RequirementError: The extra ``images`` is not installed.
    """
    image = _attempt(path, side, _resizer(side))
    if isinstance(image, Undecoded):
        raise SourceError("image", "a grey JPG, PNG or DICOM that decodes", f"one that {image.reason}", "replace it")
    return image


def read_images(paths: Iterable[Path], side: int, workers: int = 4) -> Iterator[NDArray[np.uint8] | Undecoded]:
    """Images in the order of ``paths``; (side, side) uint8 each, or why there is none.

    Args:
        paths: Files; read no faster than the images are taken.
        side: Pixels of the square.
        workers: Threads that decode.

    Raises:
        RequirementError: The extra ``images`` is not installed.
    """
    resize = _resizer(side)
    todo = iter(paths)
    with ThreadPoolExecutor(workers) as pool:

        def begin(path: Path) -> Future[NDArray[np.uint8] | Undecoded]:
            return pool.submit(_attempt, path, side, resize)

        running = deque(begin(path) for path in islice(todo, 2 * workers))
        while running:
            image = running.popleft().result()
            running.extend(begin(path) for path in islice(todo, 1))
            yield image


def _attempt(path: Path, side: int, resize: Any) -> NDArray[np.uint8] | Undecoded:
    try:
        grey = _dicom(path) if _is_dicom(path) else _picture(path, side)
        square: NDArray[np.float32] = np.asarray(resize(grey[None]))[0]
        return np.rint(255 * square).astype(np.uint8)
    except _UndecodableError as error:
        return Undecoded(str(error))
    except OSError:
        return Undecoded("cannot be read")
    except MemoryError:
        return Undecoded("need more memory than there is")


def _resizer(side: int) -> Any:
    """(1, H, W) in [0, 1] → (1, side, side) in [0, 1]."""
    try:
        from monai.transforms.compose import Compose
        from monai.transforms.croppad.array import ResizeWithPadOrCrop
        from monai.transforms.spatial.array import Resize
    except ImportError:
        raise _without_extra("monai") from None
    return Compose(
        [
            Resize(spatial_size=side, size_mode="longest", mode="area"),
            ResizeWithPadOrCrop(spatial_size=(side, side), mode="constant", value=0),
        ]
    )


def _without_extra(package: str) -> RequirementError:
    return RequirementError("reading images", f"the package '{package}'", "none", "run pip install 'mmnar[images]'")


def _is_dicom(path: Path) -> bool:
    """PS3.10: 128 bytes of preamble, then DICM."""
    with path.open("rb") as handle:
        return handle.read(132)[128:] == b"DICM"


def _picture(path: Path, side: int) -> NDArray[np.float32]:
    """JPG or PNG, grey in [0, 1]; (H, W)."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise _without_extra("pillow") from None
    try:
        with Image.open(path) as image:
            if image.format not in ("JPEG", "PNG"):
                raise _UndecodableError("are neither JPG nor PNG nor DICOM")
            image.draft("L", (2 * side, 2 * side))
            deep = image.mode.startswith("I")
            values = np.asarray(image if deep else image.convert("L"), dtype=np.float32)
    except UnidentifiedImageError:
        raise _UndecodableError("are neither JPG nor PNG nor DICOM") from None
    except Image.DecompressionBombError:
        raise _UndecodableError("claim an absurd size") from None
    except (OSError, ValueError, SyntaxError, EOFError):
        # the decoder's own message may quote the path
        raise _UndecodableError("are damaged") from None
    return _between(values, _ends(values, deep))


def _dicom(path: Path) -> NDArray[np.float32]:
    """DICOM, grey in [0, 1]; (H, W)."""
    try:
        import pydicom
        from pydicom.pixels.processing import apply_rescale
    except ImportError:
        raise _without_extra("pydicom") from None
    try:
        dataset = pydicom.dcmread(path)
        kind = dataset.PhotometricInterpretation
        stored = dataset.pixel_array
    except (NotImplementedError, RuntimeError):
        raise _UndecodableError("are DICOM files of a compression that is not read") from None
    except Exception:
        # pydicom raises nearly anything on a damaged file
        raise _UndecodableError("are damaged") from None
    if kind not in ("MONOCHROME1", "MONOCHROME2") or stored.ndim != 2:
        raise _UndecodableError("are DICOM files of something other than one grey image")
    values = apply_rescale(stored, dataset).astype(np.float32)
    grey = _between(values, _window(dataset) or _ends(values, dataset.BitsStored > 8))
    return 1 - grey if kind == "MONOCHROME1" else grey


def _ends(values: NDArray[np.float32], deep: bool) -> tuple[float, float]:
    """Values to show black and white where nothing says which."""
    low, high = np.percentile(values, PERCENTILES) if deep else (values.min(), values.max())
    return float(low), float(high)


def _window(dataset: Any) -> tuple[float, float] | None:
    """Values shown black and white by the first window (PS3.3 C.11.2.1.2, C.11.2.1.3.2), or None."""
    centres, widths = dataset.get("WindowCenter"), dataset.get("WindowWidth")
    if centres in (None, "") or widths in (None, ""):
        return None
    centre, width = float(np.atleast_1d(centres)[0]), float(np.atleast_1d(widths)[0])
    if dataset.get("VOILUTFunction", "LINEAR") == "LINEAR":
        # the default function counts whole grey values: its width of 2 spans one step
        centre, width = centre - 0.5, width - 1
    return (centre - width / 2, centre + width / 2) if width > 0 else None


def _between(values: NDArray[np.float32], ends: tuple[float, float]) -> NDArray[np.float32]:
    """The first end → 0, the second → 1, clipped; an image of one value is black."""
    from monai.transforms.intensity.array import ScaleIntensityRange

    low, high = ends
    if not high > low:
        return np.zeros_like(values)
    scale = ScaleIntensityRange(a_min=low, a_max=high, b_min=0.0, b_max=1.0, clip=True)
    return np.asarray(scale(values), dtype=np.float32)
