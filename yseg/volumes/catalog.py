"""The named public data sets: files in their publishers' layout, pixel size, rule for foreground, licence, citation."""

import dataclasses
import os
from urllib.parse import urlsplit

from yseg.config import InputError
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
                  " CVPR 2013")
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


def resolve(domain, data_dir, flag="--config.source"):
    """A copy of a `config.Domain` whose empty fields are filled from its data set. No file is touched.

    Args:
      domain: config.Domain; what it says itself goes before what the catalog says.
      data_dir: the folder with the data sets' own folders (--config.data_dir); needed for named data sets only.
      flag: the domain's flag, for messages.

    Returns:
      config.Domain with an image and a pixel size; with labels it also has a rule for foreground (default ">0"). A phantom
      knows its pixel size.

    Raises:
      InputError: unknown data set, no image, no pixel size, or no data_dir where it is needed.
    """
    filled = dataclasses.replace(domain)
    if domain.dataset:
        if domain.dataset not in DATASETS:
            raise InputError(f"{flag}.dataset={domain.dataset}: must be one of {', '.join(DATASETS)}")
        dataset = DATASETS[domain.dataset]
        filled.image = domain.image or _in_folder(data_dir, dataset.image, domain.dataset, flag)
        filled.labels = domain.labels or _in_folder(data_dir, dataset.labels, domain.dataset, flag)
        filled.pixel_size_nm = domain.pixel_size_nm or dataset.pixel_size_nm
        filled.foreground = domain.foreground or dataset.foreground
    if not filled.image:
        raise InputError(f"{flag}.image is empty: give a volume, or a data set by {flag}.dataset ({', '.join(DATASETS)})")
    filled.pixel_size_nm = filled.pixel_size_nm or _phantom_pixel_size_nm(filled.image)
    if filled.pixel_size_nm <= 0:
        raise InputError(f"{flag}.pixel_size_nm={filled.pixel_size_nm}: must be given for {filled.image}, in nm and above 0")
    if filled.labels:
        filled.foreground = filled.foreground or ">0"
    return filled


def _in_folder(data_dir, path, name, flag):
    if not data_dir:
        raise InputError(f"--config.data_dir is empty: {flag}.dataset={name} needs the folder of the data sets"
                         " (or set the environment variable YSEG_DATA)")
    return os.path.join(data_dir, *path.split("/"))


def _phantom_pixel_size_nm(spec):
    """The pixel size of a phantom; 0 for every other volume, and for a phantom that does not exist."""
    parts = urlsplit(spec)
    return phantom.PIXEL_SIZE_NM.get(parts.netloc, 0.0) if parts.scheme == "phantom" else 0.0
