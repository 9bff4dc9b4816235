"""Training patches: which ones a step uses depends on (seed, step, index in the batch) alone; two readers give the same.

`ResidentReader` keeps the training boxes on the devices and cuts there. `StreamingReader` reads each patch from the volumes, some
steps ahead.
"""

import collections
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from yseg import parallel
from yseg.config import InputError
from yseg.data.box import Box
from yseg.data.grid import Grid
from yseg.data.labels import LabelRule

READ_AHEAD = 3  # steps
LABELS = {"source": "labels", "labelled": "labelled_labels"}  # names of the label patches of a region
LABELLED = 4  # branch of the seed's key; those before it are in use


class Region(NamedTuple):
    """The part of one domain that is trained on.

    image, labels: TensorStores [z, y, x] (labels None = not read); grid: the volume's working grid; box: in working pixels;
    rule: what the labels mean; statistics: mean and standard deviation of its grey levels; parts: the boxes inside `box` that
    patches are cut from, None = all of it. Labels outside them are not read.
    """

    image: Any
    labels: Any
    grid: Grid
    box: Box
    rule: LabelRule | None
    statistics: tuple[float, float]
    parts: tuple[Box, ...] | None = None

    @property
    def patch_boxes(self):
        """The boxes that patches are cut from, in working pixels from the corner of `box`."""
        return tuple(part.relative_to(self.box) for part in self.parts or (self.box,))


def check_patch_fits(region, patch_size, flag):
    """InputError if a patch is larger than the region or one of its parts."""
    height, width = (min(box.shape[axis] for box in region.patch_boxes) for axis in (1, 2))
    if patch_size > min(height, width):
        raise InputError(f"--config.sampling.patch_size={patch_size}: must be at most {min(height, width)}, the smaller side of"
                         f" the training region of {flag} ({height} x {width} working pixels)")


PART = 1  # branch of a sample's key that draws one of several boxes


@functools.partial(jax.jit, static_argnames=("boxes", "patch_size"))
def locations(key, step, index, boxes, patch_size):
    """Corners of patches: int32 [batch, 3] (section, first row, first column), uniform over all that fit into one of the boxes.

    Args:
      key: random key of the domain.
      step: int32 scalar.
      index: int32 [batch], the samples' places in the global batch.
      boxes: tuple of `Box`, in working pixels.
      patch_size: side of a patch, in working pixels.
    """
    key = jax.random.fold_in(key, step)
    starts, shapes = (np.array([getattr(box, name) for box in boxes], np.int32) for name in ("start", "shape"))
    limits = shapes - np.array([0, patch_size - 1, patch_size - 1], np.int32)
    shares = np.log(np.prod(limits, axis=1, dtype=np.float64)).astype(np.float32)

    def draw(place):
        sample_key = jax.random.fold_in(key, place)
        box = jax.random.categorical(jax.random.fold_in(sample_key, PART), shares) if len(boxes) > 1 else 0
        return jnp.asarray(starts)[box] + jax.random.randint(sample_key, (3,), 0, jnp.asarray(limits)[box])

    return jax.vmap(draw)(index)


def section_numbers(section, sections, count):
    """Sections shown to the network around one: `sections` numbers in [0, count); beyond the ends the outermost is repeated."""
    offsets = np.arange(sections) - sections // 2
    return jnp.clip(section + offsets, 0, count - 1)


def _cut(volume, corner, patch_size, sections):
    """Patch `[y, x, section]` of a volume `[z, y, x]`."""
    numbers = section_numbers(corner[0], sections, volume.shape[0])
    cut = [jax.lax.dynamic_slice(volume, (number, corner[1], corner[2]), (1, patch_size, patch_size)) for number in numbers]
    return jnp.concatenate(cut).transpose(1, 2, 0)


def _domain_keys(seed):
    key = jax.random.key(seed)
    source, target = jax.random.split(key, 2)
    return {"source": source, "target": target, "labelled": jax.random.fold_in(key, LABELLED)}


def _given(source, target, labelled):
    regions = (("source", source), ("target", target), ("labelled", labelled))
    return {name: region for name, region in regions if region}


class ResidentReader:
    """Keeps source, target and labelled target (None = without) on the devices; `batch(step)` cuts the patches there.

    volumes: dict of arrays on the devices; index: int32 [local device, samples]; cut: `cut(volumes, index, step)` are the raw
    patches of one device, `index` its samples, a pure function.
    """

    def __init__(self, source, target, config, labelled=None):
        self._regions = _given(source, target, labelled)
        volumes = {}
        for name, region in self._regions.items():
            if not (name == "labelled" and target):  # else it shares the target's image, see `_cut_batch`
                volumes[name] = region.grid.image(region.image, region.box)
            volumes[f"{name}_statistics"] = np.array(region.statistics, np.float32)
            if name in LABELS:
                volumes[LABELS[name]] = _read_labels(region)
        self.volumes = parallel.replicate(volumes)
        self.index = parallel.share(config.sampling.batch_size)
        boxes = {name: region.patch_boxes for name, region in self._regions.items()}
        self.cut = functools.partial(_cut_batch, boxes=boxes, seed=config.seed, patch_size=config.sampling.patch_size,
                                     sections=config.model.sections)
        self._mapped = parallel.map_shares(self.cut)

    def batch(self, step):
        """The raw patches of a step: dict of arrays with a leading device axis, see `yseg.training.step.make_batch`."""
        return self._mapped(self.volumes, self.index, np.int32(step))


def _read_labels(region):
    """The labels of a region's box, int8 or wider [z, y, x]; -1 outside its parts."""
    if region.parts is None:
        return region.grid.labels(region.labels, region.rule, region.box)
    labels = None
    for part, place in zip(region.parts, region.patch_boxes, strict=True):
        read = region.grid.labels(region.labels, region.rule, part)
        labels = np.full(region.box.shape, -1, read.dtype) if labels is None else labels
        labels[place.slices] = read
    return labels


def _cut_batch(volumes, index, step, *, boxes, seed, patch_size, sections):
    raw = {"index": index}
    for name, key in _domain_keys(seed).items():
        if name not in boxes:
            continue
        image = volumes[name] if name in volumes else volumes["target"]
        corners = locations(key, step, index, boxes[name], patch_size)
        raw[name] = jax.vmap(lambda corner, image=image: _cut(image, corner, patch_size, sections))(corners)
        raw[f"{name}_statistics"] = volumes[f"{name}_statistics"]
        if name in LABELS:
            labels = volumes[LABELS[name]]
            raw[LABELS[name]] = jax.vmap(lambda corner, labels=labels: _cut(labels, corner, patch_size, 1)[..., 0])(corners)
    return raw


class StreamingReader:
    """Reads each patch of the regions (None = without) from its volume, `READ_AHEAD` steps ahead of `batch(step)`."""

    def __init__(self, source, target, config, labelled=None):
        self._regions = _given(source, target, labelled)
        self._index = parallel.share(config.sampling.batch_size)
        self._keys = _domain_keys(config.seed)
        self._patch_size, self._sections = config.sampling.patch_size, config.model.sections
        self._ahead = collections.deque()

    def batch(self, step):
        """The raw patches of a step, as `ResidentReader.batch`; fastest if the steps follow each other."""
        if not self._ahead or self._ahead[0][0] != step:
            self._ahead = collections.deque((later, self._request(later)) for later in range(step, step + READ_AHEAD))
        _, requests = self._ahead.popleft()
        self._ahead.append((step + READ_AHEAD, self._request(step + READ_AHEAD)))
        return self._collect(requests)

    def _request(self, step):
        """Start to read every patch of a step: {name: [request, ...] in the order of the index}."""
        requests = {}
        for name, region in self._regions.items():
            corners = np.asarray(locations(self._keys[name], np.int32(step), self._index.ravel(), region.patch_boxes,
                                           self._patch_size))
            requests[name] = [self._request_image(region, corner) for corner in corners]
            if name in LABELS:
                boxes = [self._box(region, corner, corner[0]) for corner in corners]
                requests[LABELS[name]] = [region.grid.request_labels(region.labels, region.rule, box) for box in boxes]
        return requests

    def _request_image(self, region, corner):
        numbers = np.asarray(section_numbers(corner[0], self._sections, region.box.shape[0]))
        return [region.grid.request(region.image, self._box(region, corner, number)) for number in numbers]

    def _box(self, region, corner, section):
        start = tuple(int(first + offset) for first, offset in zip(region.box.start, (section, *corner[1:]), strict=True))
        return Box(start, (start[0] + 1, start[1] + self._patch_size, start[2] + self._patch_size))

    def _collect(self, requests):
        raw = {"index": self._index}
        for name in self._regions:
            patches = [np.concatenate([part.result() for part in parts]).transpose(1, 2, 0) for parts in requests[name]]
            raw[name] = self._by_device(patches)
            statistics = np.array(self._regions[name].statistics, np.float32)
            raw[f"{name}_statistics"] = np.stack([statistics] * len(self._index))
            if name in LABELS:
                raw[LABELS[name]] = self._by_device([request.result()[0] for request in requests[LABELS[name]]])
        return raw

    def _by_device(self, patches):
        return np.stack(patches).reshape(*self._index.shape, *patches[0].shape)


def make_reader(source, target, config, labelled=None):
    """The reader of source and target (None = without) that `config.sampling` asks for.

    `labelled` is the target once more, with the labels of some of its parts, for patches of its own; None = without.
    `auto` is resident if the working volumes fit into its limit.
    """
    kind = config.sampling.reader
    if kind == "auto":
        size = sum(np.prod(region.box.shape) * (region.image.dtype.numpy_dtype.itemsize + (region.labels is not None))
                   for region in (source, target, labelled) if region)
        kind = "resident" if size <= config.sampling.resident_limit_gib * 2**30 else "streaming"
    return (ResidentReader if kind == "resident" else StreamingReader)(source, target, config, labelled)
