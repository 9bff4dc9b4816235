"""Y-Net: a U-Net with a second decoder, without skips, that rebuilds the input (Roels et al. 2019)."""

from yseg.models.blocks import Decoder
from yseg.models.unet import UNet


class YNet(UNet):
    """A U-Net whose bottleneck also has to hold what rebuilds the image, in both domains.

    Without its reconstruction decoder it is the U-Net: `segmentation_variables` gives that network's variables.
    """

    sections: int = 1

    def setup(self):
        super().setup()
        self.reconstruction = Decoder(self.levels, self.features, self.sections, self._block(), skips=False, dtype=self.dtype)

    def reconstruct(self, activations, train=False, keys=None):
        """The rebuilt images `[batch, y, x, section]`, float32, from the bottleneck of `encode` alone."""
        return self.reconstruction(activations, train, keys)

    def everything(self, images, train=False, keys=None):
        """Logits and rebuilt images; initialising through it creates the variables of both decoders."""
        activations = self.encode(images, train, keys)
        return self.decode(activations, train, keys), self.reconstruct(activations, train, keys)

    @staticmethod
    def segmentation_variables(variables):
        """The variables of the U-Net inside: every collection without the reconstruction decoder's part."""
        return {collection: {part: values for part, values in parts.items() if part != "reconstruction"}
                for collection, parts in variables.items()}
