"""Whether an image volume and a label volume belong together."""

from yseg.config import InputError
from yseg.volumes.folder import listed
from yseg.volumes.opened import OpenedVolume, times


def check_pair(image: OpenedVolume, labels: OpenedVolume, image_flag: str, labels_flag: str) -> None:
    """InputError, naming both flags, unless an image and its labels have the same shape and the same numbers of sections."""
    if image.numbers is not None and labels.numbers is not None and image.numbers != labels.numbers:
        alone = [f"{flag} alone has {listed(sorted(set(own) - set(other)))}" for flag, own, other in (
            (image_flag, image.numbers, labels.numbers), (labels_flag, labels.numbers, image.numbers)) if set(own) - set(other)]
        raise InputError(f"{labels_flag}: the numbers in the names of its sections differ from those of {image_flag}:"
                         f" {'; '.join(alone)}")
    if tuple(image.store.shape) != tuple(labels.store.shape):
        raise InputError(f"{labels_flag}: shape {times(labels.store.shape)} differs from {times(image.store.shape)} of"
                         f" {image_flag} (sections x rows x columns)")
