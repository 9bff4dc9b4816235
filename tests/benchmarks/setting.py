"""What is timed: the sizes of network and batch, their experiments, and drawn patches for them."""

from typing import NamedTuple

import numpy as np

from yseg.config import (
    Adaptation,
    Experiment,
    Loss,
    Model,
    Optimizer,
    Sampling,
    no_augmentation,
    strong_augmentation,
)

MEAN, DEVIATION = 128.0, 40.0  # of the drawn grey levels


class Size(NamedTuple):
    """A network and a batch: maps at full resolution, poolings, side of a patch, patches of each domain, compute type."""

    features: int
    levels: int
    patch: int
    batch: int
    dtype: str = "float32"

    def __str__(self):
        kind = "" if self.dtype == "float32" else f", {self.dtype}"
        return f"{self.features} maps, {self.levels} poolings, {self.patch} x {self.patch}, {self.batch} + {self.batch}{kind}"


SMALL, PAPER = Size(16, 3, 96, 4), Size(32, 4, 128, 2)
LARGE = Size(64, 4, 256, 16, "bfloat16")  # for an accelerator


def experiment(size, method="ft", batch=None, augmented=False, steps=1000):
    """The Experiment of a size; `batch` patches of a domain where they are not the size's own."""
    from yseg.methods import METHODS  # here, as PyTorch's programs need no JAX

    return Experiment(
        name="benchmark", method=method,
        sampling=Sampling(working_pixel_size_nm=10.0, patch_size=size.patch, batch_size=batch or size.batch),
        augmentation=strong_augmentation() if augmented else no_augmentation(),
        model=Model(levels=size.levels, features=size.features, compute_dtype=size.dtype),
        loss=Loss(name="soft_jaccard"), optimizer=Optimizer(steps=steps, warmup_steps=0, schedule="constant"),
        adaptation=Adaptation(**METHODS[method].weights))


def drawn(shape, seed=0):
    """(grey levels uint8, labels int8) of noise in which round spots are brighter and labelled."""
    random = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int8)
    y, x = np.ogrid[:shape[-2], :shape[-1]]
    for section in labels.reshape(-1, *shape[-2:]):
        for _ in range(max(1, section.size // 4096)):
            centre_y, centre_x = random.uniform(0, shape[-2:])
            section[(y - centre_y) ** 2 + (x - centre_x) ** 2 < random.uniform(4, 12) ** 2] = 1
    levels = MEAN + DEVIATION * (0.7 * random.normal(size=shape) + 1.5 * labels)
    return levels.clip(0, 255).astype(np.uint8), labels


def raw_batch(config, seed=0):
    """The raw patches of one step on one device, as `yseg.training.step.make_batch` takes them, with a device axis of 1."""
    sampling = config.sampling
    shape = (sampling.batch_size, sampling.patch_size, sampling.patch_size)
    image, labels = drawn(shape, seed)
    statistics = np.array([MEAN, DEVIATION], np.float32)
    raw = {"index": np.arange(sampling.batch_size, dtype=np.int32), "labelled": image[..., None], "labels": labels,
           "labelled_statistics": statistics, "target": drawn(shape, seed + 1)[0][..., None], "target_statistics": statistics}
    return {name: value[None] for name, value in raw.items()}


def z_scored(image):
    """Float32 grey levels as the networks get them."""
    return ((image.astype(np.float32) - np.float32(MEAN)) / np.float32(DEVIATION)).astype(np.float32)

