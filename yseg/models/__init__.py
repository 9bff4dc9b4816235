"""Network architectures: flax.linen modules and nothing else."""

from yseg.config import has_reconstruction
from yseg.models.domain_classifier import DomainClassifier
from yseg.models.unet import UNet
from yseg.models.ynet import YNet

__all__ = ["DomainClassifier", "UNet", "YNet", "build_network"]


def build_network(config, method, axis_name=None):
    """The network of a `yseg.config.Model` for a method: a YNet if it rebuilds images, else a UNet."""
    fields = {"levels": config.levels, "features": config.features, "classes": config.classes,
              "normalization": config.normalization, "groups": config.groups, "dropout": config.dropout,
              "activation": config.activation, "residual": config.residual, "dtype": config.compute_dtype,
              "rematerialise": config.rematerialise, "axis_name": axis_name}
    return YNet(sections=config.sections, **fields) if has_reconstruction(method) else UNet(**fields)
