"""Network architectures: flax.linen modules, and the U-Net as it is applied, see `yseg.models.folded`."""

from yseg.config import Model
from yseg.models.domain_classifier import DomainClassifier
from yseg.models.unet import UNet
from yseg.models.ynet import YNet

__all__ = ["DomainClassifier", "UNet", "YNet", "reconstruction_network", "segmentation_network"]


def segmentation_network(model: Model, axis_name: str | None = None) -> UNet:
    """The U-Net that a configuration describes."""
    return UNet(**_fields(model), axis_name=axis_name)


def reconstruction_network(model: Model, axis_name: str | None = None) -> YNet:
    """The same U-Net with a second decoder that rebuilds images of `model.sections` sections."""
    return YNet(**_fields(model), sections=model.sections, axis_name=axis_name)


def _fields(model):
    return {"levels": model.levels, "features": model.features, "classes": model.classes, "normalization": model.normalization,
            "groups": model.groups, "dropout": model.dropout, "activation": model.activation, "residual": model.residual,
            "dtype": model.compute_dtype, "rematerialise": model.rematerialise}
