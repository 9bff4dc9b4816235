"""Pictures inside a page: data URIs, of a bounded size in all."""

import base64
import io
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

WIDEST = 1600  # of a picture in a page, in pixels
QUALITY = 85  # of a JPEG
LIMIT = 15_000_000  # bytes of a page
PICTURES = 14_000_000  # bytes of all pictures in it, as they are written there

_TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".svg": "image/svg+xml"}


class Album:
    """Makes data URIs, as long as they fit into a number of bytes in all."""

    def __init__(self, limit: int = PICTURES) -> None:
        self.left = limit

    def add(self, *contents: tuple[bytes, str], share: float = 1.0) -> list[str] | None:
        """The data URIs of some pictures, or None if they do not fit.

        Args:
          contents: each the bytes of a file, and its ending.
          share: of what is left that these may take.
        """
        uris = [_data_uri(content, ending) for content, ending in contents]
        size = sum(map(len, uris))
        if size > share * self.left:
            return None
        self.left -= size
        return uris

    def add_file(self, path: str | os.PathLike[str]) -> str | None:
        """The data URI of a PNG file, smaller and as JPEG where that saves much; None if it does not fit or is no picture."""
        try:
            content, ending = smaller(Path(path).read_bytes())
        except (OSError, ValueError, Image.DecompressionBombError):  # damaged, or no picture
            return None
        uris = self.add((content, ending))
        return uris[0] if uris else None


def smaller(content: bytes) -> tuple[bytes, str]:
    """A picture (the bytes of a file) as a page shows it: at most WIDEST, as PNG or, if that is less than half of it, as JPEG.

    Returns:
      The bytes and the ending, ".png" or ".jpg".

    Raises:
      OSError, ValueError: it is no picture, or damaged.
    """
    with Image.open(io.BytesIO(content)) as opened:
        picture = opened.convert("RGB")
        wide, same = picture.width > WIDEST, opened.format == "PNG"
    if wide:
        picture = picture.resize((WIDEST, max(1, round(picture.height * WIDEST / picture.width))), Image.Resampling.LANCZOS)
    drawn = content if same and not wide else _written(picture, "PNG", optimize=True)
    photo = _written(picture, "JPEG", quality=QUALITY)
    return (photo, ".jpg") if 2 * len(photo) < len(drawn) else (drawn, ".png")


def thinned(number: int, kept: int) -> list[int]:
    """Of so many things the indices of `kept` that are evenly spaced."""
    return [(2 * index + 1) * number // (2 * kept) for index in range(kept)]


def fitting(sizes: Sequence[int], limit: float) -> list[int]:
    """The indices of as many evenly spaced files, of these sizes in bytes, as fit into a limit as data URIs."""
    for kept in range(len(sizes), 0, -1):
        found = thinned(len(sizes), kept)
        if sum(4 * -(-sizes[index] // 3) + 100 for index in found) <= limit:
            return found
    return []


def _data_uri(content: bytes, ending: str) -> str:
    return f"data:{_TYPES[ending]};base64,{base64.b64encode(content).decode('ascii')}"


def _written(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
