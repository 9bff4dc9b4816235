"""Tiny experiments on the phantom, for the tests of what trains a run."""

from yseg.config import Domain, Experiment, Inference, Model, Optimizer, Record, Sampling


def domain(name, sections=3, seed=2, **fields):
    """The phantom's "source" or "target", of 64 x 96 voxels a section; the default seed has foreground in both."""
    image, labels = (f"phantom://{name}/{content}?shape={sections},64,96&seed={seed}" for content in ("image", "labels"))
    return Domain(**{"image": image, "labels": labels, "foreground": ">0", "pixel_size_nm": 10.0} | fields)


def experiment(**fields):
    """Four steps of a network of one level."""
    defaults = {
        "source": domain("source", validation_fraction=0.3), "target": domain("target", test_fraction=0.3),
        "sampling": Sampling(patch_size=16, batch_size=2), "model": Model(levels=1, features=4),
        "optimizer": Optimizer(steps=4, warmup_steps=1), "inference": Inference(tile_size=64, overlap=4),
        "record": Record(validate_every=0, images=0)}
    return Experiment(**defaults | fields)
