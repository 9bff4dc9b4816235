"""Whether an image volume and a label volume belong together."""

from yseg.config import InputError
from yseg.volumes.names import listed
from yseg.volumes.opened import OpenedVolume, times


def check_pair(image: OpenedVolume, labels: OpenedVolume, image_flag: str, labels_flag: str) -> None:
    """InputError, naming both flags, unless an image and its labels have the same shape and the same sections.

    Sections are the same if the numbers in the names of their files are. If neither have numbers, the names must be the same
    but for what is in all of them, unless they have nothing to do with each other.
    """
    if image.numbers is not None and labels.numbers is not None:
        _check_same(image.numbers, labels.numbers, "numbers in the names", image_flag, labels_flag)
    elif set(image.stems) & set(labels.stems):
        _check_same(image.stems, labels.stems, "names", image_flag, labels_flag)
    if tuple(image.store.shape) != tuple(labels.store.shape):
        raise InputError(f"{labels_flag}: shape {times(labels.store.shape)} differs from {times(image.store.shape)} of"
                         f" {image_flag} (sections x rows x columns)")


def _check_same(image: tuple, labels: tuple, what: str, image_flag: str, labels_flag: str) -> None:
    """InputError unless two volumes have the same numbers or names, which are sorted."""
    if image == labels:
        return
    alone = [f"{flag} alone has {listed(sorted(set(own) - set(other)))}" for flag, own, other in (
        (image_flag, image, labels), (labels_flag, labels, image)) if set(own) - set(other)]
    raise InputError(f"{labels_flag}: the {what} of its sections differ from those of {image_flag}: {'; '.join(alone)}; if they"
                     " belong together in their order, rename the files of one, or make it a single file with launch.convert")
