"""The named public data sets: files in their publishers' layout, pixel size, rule for foreground, licence, citation."""

import dataclasses
import os
from collections.abc import Callable
from urllib.parse import urlsplit

from yseg.config import Domain, InputError
from yseg.volumes import phantom


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A published volume with labels."""

    image: str  # path of the image volume in the data folder, with /
    labels: str  # path of the label volume
    pixel_size_nm: float  # size of a pixel in y and x
    section_nm: float  # distance of two sections
    foreground: str  # which label values are foreground, as in config.Domain
    description: str
    licence: str
    citation: str


_EPFL_CITATION = ("Lucchi, Li, Fua: Learning for structured prediction using approximate subgradient descent with working sets,"
                  " CVPR 2013, https://www.epfl.ch/labs/cvlab/data/data-em/")
_EPFL_LICENCE = "published by the CVLab of EPFL for research"

DATASETS = {
    "epfl": Dataset(
        image="epfl/training.tif", labels="epfl/training_groundtruth.tif", pixel_size_nm=5.0, section_nm=5.0, foreground=">0",
        description="mitochondria in mouse hippocampus CA1, FIB-SEM, training sub-volume of 165 x 768 x 1024 voxels",
        licence=_EPFL_LICENCE, citation=_EPFL_CITATION),
    "epfl_testing": Dataset(
        image="epfl/testing.tif", labels="epfl/testing_groundtruth.tif", pixel_size_nm=5.0, section_nm=5.0, foreground=">0",
        description="mitochondria in mouse hippocampus CA1, FIB-SEM, testing sub-volume of 165 x 768 x 1024 voxels",
        licence=_EPFL_LICENCE, citation=_EPFL_CITATION),
    "vnc": Dataset(
        image="vnc/stack1/raw", labels="vnc/stack1/mitochondria", pixel_size_nm=4.6, section_nm=50.0,
        # Three masks are 1-bit and the others have grey edges: a threshold at 127 would not treat them alike.
        foreground=">0",
        description="mitochondria in the ventral nerve cord of a Drosophila larva, ssTEM, stack 1 of 20 x 1024 x 1024 voxels",
        licence="CC BY-NC-SA 3.0",
        citation="Gerhard, Funke, Martel, Cardona, Fetter: Segmented anisotropic ssTEM dataset of neural tissue, figshare 2013,"
                 " doi 10.6084/m9.figshare.856713"),
}


def resolve(domain: Domain, data_dir: str, flag: str = "domain", data_dir_flag: str = "data_dir", *,
            measured: Callable[[Domain], float] = lambda _: 0.0) -> Domain:
    """A copy of a `yseg.config.Domain` whose empty fields are filled from its data set. No file is touched, but by `measured`.

    What the domain says itself goes before what the catalog says. If its image is not the data set's own, nothing is filled in
    and `dataset` is "" in the result, as labels, pixel size and licence are another volume's. If its labels are not the data
    set's own, they do not get the data set's rule for foreground, but the default: the values may mean something else. A result
    that is resolved again stays the same.

    Args:
      domain: of which at least the data set or the image is given.
      data_dir: the folder with the data sets' own folders; needed for named data sets only.
      flag: what messages call the domain.
      data_dir_flag: what messages call data_dir.
      measured: gives the pixel size that a Domain's image says of itself, 0 if none; it is asked if nothing else says one.

    Returns:
      Domain with an image and a pixel size; with labels it also has a rule for foreground (default ">0"). A phantom knows its
      pixel size.

    Raises:
      InputError: unknown data set, no image, no pixel size, or no data_dir where it is needed.
    """
    if domain.dataset and domain.dataset not in DATASETS:
        raise InputError(f"{flag}.dataset={domain.dataset}: must be one of {', '.join(DATASETS)}")
    if not domain.dataset and not domain.image:
        raise InputError(f"{flag}.image is empty: give a volume, or a data set by {flag}.dataset ({', '.join(DATASETS)})")
    if domain.dataset and not domain.image and not data_dir:
        raise InputError(f"{data_dir_flag} is empty: {flag}.dataset={domain.dataset} needs the folder of the data sets"
                         " (or set the environment variable YSEG_DATA)")
    filled = _filled(domain, data_dir)
    pixel_size_nm = filled.pixel_size_nm or _phantom_pixel_size_nm(filled.image) or measured(filled)
    if pixel_size_nm <= 0:
        unused = ""
        if domain.dataset and not filled.dataset:
            unused = f"; that of {flag}.dataset={domain.dataset} is not used, as {flag}.image is given"
        raise InputError(f"{flag}.pixel_size_nm={pixel_size_nm}: must be given for {filled.image}, in nm and above 0{unused}")
    foreground = filled.foreground or (">0" if filled.labels else "")
    return dataclasses.replace(filled, pixel_size_nm=pixel_size_nm, foreground=foreground)


def _filled(domain: Domain, data_dir: str) -> Domain:
    """The domain with what its data set says about it; without the data set if its image is another's."""
    if not domain.dataset:
        return domain
    dataset = DATASETS[domain.dataset]
    image, labels = (os.path.join(data_dir, *path.split("/")) for path in (dataset.image, dataset.labels))
    if domain.image and not (data_dir and _is_same(domain.image, image)):
        return dataclasses.replace(domain, dataset="")
    own_labels = not domain.labels or _is_same(domain.labels, labels)
    return dataclasses.replace(
        domain, image=domain.image or image, labels=domain.labels or labels,
        pixel_size_nm=domain.pixel_size_nm or dataset.pixel_size_nm,
        foreground=domain.foreground or (dataset.foreground if own_labels else ""))


def _is_same(path: str, other: str) -> bool:
    return os.path.abspath(os.path.expanduser(path)) == os.path.abspath(os.path.expanduser(other))


def _phantom_pixel_size_nm(spec: str) -> float:
    """The pixel size of a phantom; 0 for every other volume, and for a phantom that does not exist."""
    parts = urlsplit(spec)
    return phantom.PIXEL_SIZE_NM.get(parts.netloc, 0.0) if parts.scheme == "phantom" else 0.0
