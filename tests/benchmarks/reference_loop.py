"""PyTorch's training loop: patches cut and augmented by a DataLoader, with the transforms of `yseg.data.augment` in NumPy."""

import numpy as np
import torch
from scipy import ndimage
from scipy.interpolate import BSpline

from tests.benchmarks.reference import check, device, fastest, settings, trainer, wait, words
from tests.benchmarks.setting import z_scored

SHARPEN_SIGMA = 1.0  # as in yseg.data.augment, with which JAX would be imported


def augment(random, image, labels, config):
    """The transforms of `yseg.data.augment.augment` with SciPy: image float32 [y, x], labels int8 [y, x]."""
    turns = random.integers(4)
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    for axis in range(2):
        if random.random() < 0.5:
            image, labels = np.flip(image, axis), np.flip(labels, axis)
    if random.random() < config.elastic_probability:
        positions = np.indices(image.shape) + _displacement(random, image.shape, config)
        image = ndimage.map_coordinates(image, positions, order=1, mode="mirror")
        labels = ndimage.map_coordinates(labels, positions, order=0, mode="mirror")
    if random.random() < config.blur_probability:
        image = ndimage.gaussian_filter(image, random.random() * config.blur_pixels)
    if random.random() < config.sharpen_probability:
        amount = random.random() * config.sharpen_amount
        image = image + amount * (image - ndimage.gaussian_filter(image, SHARPEN_SIGMA))
    low, high = image.min(), image.max()
    bent = ((image - low) / (high - low)) ** np.exp(random.uniform(-config.gamma, config.gamma))
    image = image.mean() + (bent - bent.mean()) * (image.std() / bent.std())
    image = image * np.exp(random.uniform(-config.contrast, config.contrast))
    image = image + random.uniform(-config.brightness, config.brightness)
    if random.random() < config.noise_probability:
        image = image + random.random() * config.noise * random.standard_normal(image.shape, np.float32)
    return np.ascontiguousarray(image, np.float32), np.ascontiguousarray(labels)


def _displacement(random, shape, config):
    """A smooth displacement in pixels, [(y, x), y, x]: cubic splines of random coefficients."""
    bases = []
    for size in shape:
        knots = np.arange(-3, max(1, -(-(size - 1) // config.elastic_spacing)) + 4)
        bases.append(BSpline.design_matrix(np.arange(size) / config.elastic_spacing, knots, 3).toarray())
    control = 2 * config.elastic_pixels * random.normal(size=(2, bases[0].shape[1], bases[1].shape[1]))
    return bases[0] @ control @ bases[1].T


class Patches(torch.utils.data.Dataset):
    """`count` random augmented patches of a volume in memory: (image float32 [1, y, x], labels float32 [y, x])."""

    def __init__(self, image, labels, patch_size, config, count):
        self._image, self._labels, self._patch_size, self._config, self._count = image, labels, patch_size, config, count
        self._random = None

    def _levels(self, values):
        return z_scored(values)

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        if self._random is None:  # one for each worker
            worker = torch.utils.data.get_worker_info()
            self._random = np.random.default_rng(worker.id if worker else 0)
        random = self._random
        section, *corner = (random.integers(size - side + 1) for size, side in
                            zip(self._image.shape, (1, self._patch_size, self._patch_size), strict=True))
        place = (section, *(slice(first, first + self._patch_size) for first in corner))
        image, labels = augment(random, self._levels(self._image[place]), self._labels[place], self._config)
        return torch.from_numpy(image[None]), torch.from_numpy(labels.astype(np.float32))


def build_loop(values, volume, config, steps):
    """A side: `steps` training steps on new patches, with the fastest setting and number of workers. Facts: both.

    Args:
      values: see `tests.benchmarks.reference.check`.
      volume: (image uint8 [z, y, x], labels int8 [z, y, x]).
      config: `yseg.config.Experiment`: its patches, batch and augmentation.
      steps: of a call.
    """
    check(values)
    patches = Patches(*volume, config.sampling.patch_size, config.augmentation, steps * config.sampling.batch_size)

    def build(candidate):
        setting, workers = candidate
        step, _ = trainer(values, setting)
        # All patches of a call are cut and augmented in it: workers that ran ahead would work while the other side is timed.
        loader = torch.utils.data.DataLoader(patches, config.sampling.batch_size, num_workers=workers,
                                             persistent_workers=workers > 0, pin_memory=device().type == "cuda")

        def run():
            for images, labels in loader:
                step(images.to(device(), memory_format=setting[0], non_blocking=True), labels.to(device(), non_blocking=True))
            wait()

        return run

    # The layout and the compiler that are fastest for the step alone; then the threads and workers for the loop.
    layout, compiled, _ = fastest(lambda setting: _steps_alone(values, setting, config), settings())
    alike = [setting for setting in settings() if setting[:2] == (layout, compiled)]
    chosen = fastest(build, [(setting, workers) for setting in alike for workers in (0, 1, 2)])
    return build(chosen), {"setting": f"{words(chosen[0])}, {chosen[1]} workers"}


def _steps_alone(values, setting, config):
    step, _ = trainer(values, setting)
    shape = (config.sampling.batch_size, config.sampling.patch_size, config.sampling.patch_size)
    images = torch.randn(shape[0], 1, *shape[1:], device=device()).contiguous(memory_format=setting[0])
    labels = (torch.rand(shape, device=device()) < 0.1).float()

    def run():
        step(images, labels)
        wait()

    return run
