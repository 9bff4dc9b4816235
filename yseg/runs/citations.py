"""What is to be cited by who uses the network of a run."""

from yseg.config import Experiment
from yseg.methods import METHODS
from yseg.volumes.catalog import DATASETS

YSEG = ("yseg began with the methods of Roels, Hennies, Saeys, Philips, Kreshuk: Domain adaptive segmentation in volume electron"
        " microscopy imaging, ISBI 2019, arXiv 1810.09734")
U_NET = "Ronneberger, Fischer, Brox: U-Net: convolutional networks for biomedical image segmentation, MICCAI 2015"
ADABN = "Li, Wang, Shi, Hou, Liu: Adaptive batch normalization for practical domain adaptation, Pattern Recognition 2018"


def to_cite(config: Experiment, started_with: str | None = None) -> list[str]:
    """Papers of the software, the network and the methods, and the data sets with their licences.

    Args:
      config: of the run, resolved.
      started_with: the method of the run that it started from, if there is one.
    """
    papers = [f"Network: {U_NET}."]
    for method in dict.fromkeys([config.method, started_with]):
        if method:
            papers += [f"{METHODS[method].title}: {paper}." for paper in METHODS[method].citations]
    if config.model.normalization == "batch" and config.model.batch_statistics == "target":
        papers.append(f"Batch statistics of the target: {ADABN}.")
    return [f"{YSEG}.", *papers, *dict.fromkeys(_of_data(config.source)), *dict.fromkeys(_of_data(config.target))]


def _of_data(domain):
    known = DATASETS.get(domain.dataset)
    if known:
        yield f"Data, {domain.dataset}: {known.citation}. {known.description[0].upper()}{known.description[1:]}. Licence:" \
              f" {known.licence}."
    elif not domain.image.startswith("phantom://"):
        yield "Data of your own, or of others: cite who published them, by their licence."
