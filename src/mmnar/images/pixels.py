"""Image files → grey squares: JPG, PNG and DICOM, whatever their size and depth.

1. **Grey values.** A DICOM's stored values go through its rescale slope and intercept. 8-bit colour becomes luma; what
   is transparent stands before black. A picture whose EXIF says that it is to be turned or mirrored is.
2. **Intensity** to [0, 1]: by the DICOM's window where it has one (the first; values beyond it are clipped; a sigmoid
   one as if it were linear); else, where a pixel has more than 8 bits, by the 0.5th and 99.5th percentile (clipped:
   burnt-in markers and dead pixels would otherwise set the scale); else by the darkest and the brightest pixel.
   MONOCHROME1 (0 is white) is inverted, so that bone is bright in every image.
3. **Size.** The longer side becomes ``side`` by averaging areas, the aspect ratio stays, and black margins are added on
   both sides of the shorter one: nothing of the chest is cut off, no heart is made wider than it is. A JPG may be
   decoded at the smallest of 1/2, 1/4 or 1/8 of its size that is still at least twice ``side``.

What cannot be decoded is returned as ``Undecoded`` with a reason that can be counted, and never stops a run. What the
decoding libraries warn of is not shown: it may quote what a header says of a patient.
"""

from __future__ import annotations

import logging
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.errors import MmnarError, RequirementError, SourceError
from mmnar.extras import lacking

PERCENTILES: Final = (0.5, 99.5)
"""Between these, images of more than 8 bits are stretched."""

LARGEST: Final = 1 << 28
"""Pixels of an image that is believed; chest X-rays have about 10 million."""

_OTHER: Final = "are neither JPG nor PNG nor DICOM"
_DAMAGED: Final = "are damaged"
_ABSURD: Final = "claim an absurd size"
_SCALE: Final = "are DICOM files whose slope, intercept or window is no number"


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
    except MmnarError:
        raise
    except Exception:
        # decoders raise nearly anything on what they did not expect
        return Undecoded(_DAMAGED)


def _resizer(side: int) -> Any:
    """(1, H, W) in [0, 1] → (1, side, side) in [0, 1]. From here on the decoding libraries keep their warnings."""
    for library in ("pydicom", "PIL"):
        warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
        logging.getLogger(library).setLevel(logging.CRITICAL)
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
    return lacking("reading images", package, "images")


def _is_dicom(path: Path) -> bool:
    """PS3.10: 128 bytes of preamble, then DICM."""
    with path.open("rb") as handle:
        return handle.read(132)[128:] == b"DICM"


def _picture(path: Path, side: int) -> NDArray[np.float32]:
    """JPG or PNG, grey in [0, 1]; (H, W)."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise _without_extra("pillow") from None
    try:
        with Image.open(path) as opened:
            # MPO: a JPG with further pictures behind it, as some cameras write it
            if opened.format not in ("JPEG", "MPO", "PNG"):
                raise _UndecodableError(_OTHER)
            if opened.mode in ("L", "RGB"):
                opened.draft("L", (2 * side, 2 * side))
            image = ImageOps.exif_transpose(opened)
            deep = image.mode.startswith("I")
            values = np.asarray(image if deep else _luma(image), dtype=np.float32)
    except UnidentifiedImageError:
        raise _UndecodableError(_OTHER) from None
    except Image.DecompressionBombError:
        raise _UndecodableError(_ABSURD) from None
    except (OSError, ValueError, SyntaxError, EOFError):
        # the decoder's own message may quote the path
        raise _UndecodableError(_DAMAGED) from None
    return _between(values, _ends(values, deep))


def _luma(image: Any) -> Any:
    """8-bit grey; a transparent pixel is black, whatever colour lies hidden in it."""
    if not image.has_transparency_data:
        return image.convert("L")
    from PIL import Image, ImageChops

    whole = image.convert("RGBA")
    return ImageChops.multiply(whole.convert("L"), Image.merge("L", [whole.getchannel("A")]))


def _dicom(path: Path) -> NDArray[np.float32]:
    """DICOM, grey in [0, 1]; (H, W)."""
    try:
        import pydicom
    except ImportError:
        raise _without_extra("pydicom") from None
    try:
        dataset = pydicom.dcmread(path)
        kind = dataset.PhotometricInterpretation
        _check_size(int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("NumberOfFrames") or 1))
        stored = dataset.pixel_array
    except _UndecodableError:
        raise
    except (NotImplementedError, RuntimeError):
        raise _UndecodableError("are DICOM files of a compression that is not read") from None
    except Exception:
        # pydicom raises nearly anything on a damaged file
        raise _UndecodableError(_DAMAGED) from None
    if kind not in ("MONOCHROME1", "MONOCHROME2") or stored.ndim != 2:
        raise _UndecodableError("are DICOM files of something other than one grey image")
    values = _rescaled(stored, dataset)
    grey = _between(values, _window(dataset) or _ends(values, dataset.BitsStored > 8))
    return 1 - grey if kind == "MONOCHROME1" else grey


def _check_size(pixels: int) -> None:
    if pixels > LARGEST:
        raise _UndecodableError(_ABSURD)


def _rescaled(stored: NDArray[Any], dataset: Any) -> NDArray[np.float32]:
    """Stored values through slope and intercept (PS3.3 C.11.1.1.2)."""
    from pydicom.pixels.processing import apply_rescale

    try:
        values = np.asarray(apply_rescale(stored, dataset), dtype=np.float32)
    except (TypeError, ValueError, AttributeError):
        # an element that is there and empty
        raise _UndecodableError(_SCALE) from None
    if not np.isfinite(values).all() or dataset.get("RescaleSlope") == 0:
        raise _UndecodableError(_SCALE)
    return values


def _ends(values: NDArray[np.float32], deep: bool) -> tuple[float, float]:
    """Values to show black and white where nothing says which."""
    low, high = np.percentile(values, PERCENTILES) if deep else (values.min(), values.max())
    return float(low), float(high)


def _window(dataset: Any) -> tuple[float, float] | None:
    """Values shown black and white by the first window (PS3.3 C.11.2.1.2, C.11.2.1.3.2), or None."""
    centres, widths = dataset.get("WindowCenter"), dataset.get("WindowWidth")
    if centres in (None, "") or widths in (None, ""):
        return None
    try:
        centre, width = float(np.atleast_1d(centres)[0]), float(np.atleast_1d(widths)[0])
    except (TypeError, ValueError, IndexError):
        raise _UndecodableError(_SCALE) from None
    if not np.isfinite([centre, width]).all():
        raise _UndecodableError(_SCALE)
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
