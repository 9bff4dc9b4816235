"""Y-Net: a U-Net with a second decoder, without skips, that rebuilds the input (Roels et al. 2019)."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Array, Float, Key

from yseg.models.blocks import Decoder
from yseg.models.unet import UNet


class YNet(UNet):
    """A U-Net whose bottleneck also has to hold what rebuilds the image, in both domains.

    Without its reconstruction decoder it is the U-Net: `segmentation_variables` gives that network's variables.
    """

    sections: int = 1

    def setup(self) -> None:
        super().setup()
        self.reconstruction = Decoder(self.levels, self.features, self.sections, self._block(), skips=False, dtype=self.dtype)

    def reconstruct(self, activations: Sequence[Float[Array, "batch _ _ _"]], train: bool = False,
                    keys: Key[Array, "batch"] | None = None) -> Float[Array, "batch y x section"]:
        """The rebuilt images `[batch, y, x, section]`, float32, from the bottleneck of `encode` alone."""
        return self.reconstruction(activations, train, keys)

    def everything(self, images: Float[Array, "batch y x section"], train: bool = False,
                   keys: Key[Array, "batch"] | None = None) -> tuple[Float[Array, "batch y x class"],
                                                                     Float[Array, "batch y x section"]]:
        """Logits and rebuilt images; initialising through it creates the variables of both decoders."""
        activations = self.encode(images, train, keys)
        return self.decode(activations, train, keys), self.reconstruct(activations, train, keys)

    @staticmethod
    def segmentation_variables(variables: dict[str, Any]) -> dict[str, Any]:
        """The variables of the U-Net inside: every collection without the reconstruction decoder's part."""
        return {collection: {part: values for part, values in parts.items() if part != "reconstruction"}
                for collection, parts in variables.items()}
