"""Whether an image volume and a label volume belong together."""

from yseg.config import InputError
from yseg.volumes.names import listed
from yseg.volumes.opened import OpenedVolume, times

_SHIFT = 0.51  # of a voxel: formats differ in whether a voxel lies at its corner or at its middle, and so do levels


def check_pair(image: OpenedVolume, labels: OpenedVolume, image_flag: str, labels_flag: str) -> str:
    """InputError, naming both flags, unless an image and its labels have the same shape and the same sections.

    Sections are the same if the numbers in the names of their files are. If neither have numbers, the names must be the same
    but for what is in all of them, unless they have nothing to do with each other.

    Returns:
      A line for `tell` if their files say that they lie apart or are turned, as tools often lose that; else "".
    """
    if image.numbers is not None and labels.numbers is not None:
        _check_same(image.numbers, labels.numbers, "numbers in the names", image_flag, labels_flag)
    elif set(image.stems) & set(labels.stems):
        _check_same(image.stems, labels.stems, "names", image_flag, labels_flag)
    if tuple(image.store.shape) != tuple(labels.store.shape):
        raise InputError(f"{labels_flag}: shape {times(labels.store.shape)} differs from {times(image.store.shape)} of"
                         f" {image_flag} (sections x rows x columns)")
    if not (_lie_apart(image, labels) or _are_turned(image, labels)):
        return ""
    return (f"{labels_flag} starts at {_place(labels)}, and {image_flag} at {_place(image)} (z, y, x), as their files say; voxels"
            " are paired as they are stored")


def _check_same(image: tuple, labels: tuple, what: str, image_flag: str, labels_flag: str) -> None:
    """InputError unless two volumes have the same numbers or names, which are sorted."""
    if image == labels:
        return
    alone = [f"{flag} alone has {listed(sorted(set(own) - set(other)))}" for flag, own, other in (
        (image_flag, image, labels), (labels_flag, labels, image)) if set(own) - set(other)]
    raise InputError(f"{labels_flag}: the {what} of its sections differ from those of {image_flag}: {'; '.join(alone)}; if they"
                     " belong together in their order, rename the files of one, or make it a single file with launch.convert")


def _lie_apart(image: OpenedVolume, labels: OpenedVolume) -> bool:
    sizes = zip(image.voxel_nm, labels.voxel_nm, strict=True)
    return any(one is not None and other is not None and abs(one - other) > _SHIFT * max(size or 0.0 for size in both)
               for one, other, both in zip(_start_nm(image), _start_nm(labels), sizes, strict=True))


def _are_turned(image: OpenedVolume, labels: OpenedVolume) -> bool:
    return any(one and other and one != other for one, other in zip(image.directions, labels.directions, strict=True))


def _start_nm(volume: OpenedVolume) -> list[float | None]:
    return [None if start is None or size is None else start * size
            for start, size in zip(volume.start, volume.voxel_nm, strict=True)]


def _place(volume: OpenedVolume) -> str:
    start = ", ".join("?" if value is None else f"{round(value, 3) + 0.0:.12g}" for value in _start_nm(volume))
    return f"{start} nm" + (f" and runs to {', '.join(volume.directions)}" if all(volume.directions) else "")
