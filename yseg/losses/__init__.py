"""The losses: one file each, pure functions of arrays."""

from yseg.losses.adversarial import domain_accuracy, domain_loss, reversal_schedule, reverse_gradient
from yseg.losses.correlation_alignment import coral
from yseg.losses.mean_discrepancy import median_bandwidths, mmd
from yseg.losses.reconstruction_error import reconstruction
from yseg.losses.segmentation import (
    cross_entropy,
    focal,
    jaccard_cross_entropy,
    segmentation_loss,
    soft_dice,
    soft_jaccard,
    tversky,
)

__all__ = [
    "coral", "cross_entropy", "domain_accuracy", "domain_loss", "focal", "jaccard_cross_entropy", "median_bandwidths", "mmd",
    "reconstruction", "reversal_schedule", "reverse_gradient", "segmentation_loss", "soft_dice", "soft_jaccard", "tversky",
]
