"""Training patches: which ones a step uses depends on (seed, step, index in the batch) alone; two readers give the same.

`ResidentReader` keeps the training boxes on the devices and cuts there. `StreamingReader` reads each patch from the volumes, some
steps ahead. Patches have names: "labelled", of the domain whose labels are trained on; "target", without labels; "joint", of the
target with labels, for a joint training.
"""

import collections
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore as ts
from jaxtyping import Array, Int, PRNGKeyArray

from yseg import parallel
from yseg.config import Sampling
from yseg.data.box import Box, triple
from yseg.data.grid import Grid
from yseg.data.labels import LabelRule

READ_AHEAD = 3  # steps
TRIES = 32  # places that are drawn for a patch, of which the first is taken that has ENOUGH tissue, else that with the most
ENOUGH = 0.5  # share of a patch
LABELS = {"labelled": "labels", "joint": "joint_labels"}  # names of the label patches
PSEUDO_LABELS = "target_labels"  # their name for the target, whose labels `relabel` gives
JOINT = 4  # branch of the seed's key; those before it are in use

Raw = dict[str, Any]  # arrays by name with a leading device axis, see `yseg.training.step.make_batch`


class Region(NamedTuple):
    """The part of one domain that is trained on.

    image, labels: TensorStores [z, y, x] (labels None = not read); grid: the volume's working grid; box: in working pixels;
    rule: what the labels mean; statistics: mean and standard deviation of its grey levels; parts: the boxes inside `box` that
    patches are cut from, None = all of it. Labels outside them are not read. mask: uint8 [z, y, x], where there is tissue, which
    patches hold, None = everywhere.
    """

    image: ts.TensorStore
    labels: ts.TensorStore | None
    grid: Grid
    box: Box
    rule: LabelRule | None
    statistics: tuple[float, float]
    parts: tuple[Box, ...] | None = None
    mask: ts.TensorStore | None = None

    @property
    def patch_boxes(self) -> tuple[Box, ...]:
        """The boxes that patches are cut from, in working pixels from the corner of `box`."""
        return tuple(part.relative_to(self.box) for part in self.parts or (self.box,))

    @property
    def truth(self) -> tuple[ts.TensorStore, LabelRule]:
        """The labels and what they mean; ValueError if they were not opened."""
        if self.labels is None or self.rule is None:
            raise ValueError("labels: must be opened")
        return self.labels, self.rule

    @property
    def largest_patch(self) -> int:
        """The largest side that a patch may have."""
        return min(size for box in self.patch_boxes for size in box.shape[1:])


def locations(key: PRNGKeyArray, step: Int[Array, ""], index: Int[Array, "batch"], *, boxes: tuple[Box, ...],
              patch_size: int) -> Int[Array, "batch 3"]:
    """Corners of patches (section, first row, first column), uniform over all that fit into one of the boxes.

    The arguments are those of `candidates`, of which they are the first.
    """
    return candidates(key, step, index, boxes=boxes, patch_size=patch_size, tries=1)[:, 0]


@functools.partial(jax.jit, static_argnames=("boxes", "patch_size", "tries"))
def candidates(key: PRNGKeyArray, step: Int[Array, ""], index: Int[Array, "batch"], *, boxes: tuple[Box, ...],
               patch_size: int, tries: int) -> Int[Array, "batch try 3"]:
    """Corners of patches, several for each, as `locations` draws them.

    Args:
      key: random key of the domain.
      step: of the training.
      index: the samples' places in the global batch.
      boxes: in working pixels.
      patch_size: side of a patch, in working pixels.
      tries: how many are drawn for each; the first of them are the same whatever it is.
    """
    key = jax.random.fold_in(key, step)
    starts, shapes = (np.array([getattr(box, name) for box in boxes], np.int32) for name in ("start", "shape"))
    limits = shapes - np.array([0, patch_size - 1, patch_size - 1], np.int32)
    sizes = np.prod(limits, axis=1, dtype=np.float64)
    # Whole numbers, which every kind of device compares alike: box i is drawn below bound i.
    bounds = (np.cumsum(sizes)[:-1] / np.sum(sizes) * 2**32).astype(np.uint32)

    def draw(sample_key):
        box = jnp.int32(0)
        if len(boxes) > 1:
            box_key, sample_key = jax.random.split(sample_key)
            box = jnp.sum(jax.random.bits(box_key) >= bounds)
        return jnp.asarray(starts)[box] + jax.random.randint(sample_key, (3,), 0, jnp.asarray(limits)[box])

    def draws(place):
        sample_key = jax.random.fold_in(key, place)
        first = draw(sample_key)[None]
        if tries == 1:
            return first
        more = jax.vmap(lambda number: draw(jax.random.fold_in(sample_key, number)))(jnp.arange(1, tries))
        return jnp.concatenate([first, more])

    return jax.vmap(draws)(index)


def section_numbers(section: Any, sections: int, count: int) -> Any:
    """Sections shown to the network around one: `sections` numbers in [0, count); beyond the ends the outermost is repeated.

    `section` may be a number or traced; the numbers are a NumPy array or traced alike.
    """
    return (section + (np.arange(sections) - sections // 2)).clip(0, count - 1)


def domain_keys(seed: int) -> dict[str, PRNGKeyArray]:
    """The random keys of the patches of each name."""
    key = jax.random.key(seed)
    labelled, target = jax.random.split(key, 2)
    return {"labelled": labelled, "target": target, "joint": jax.random.fold_in(key, JOINT)}


class ResidentReader:
    """Keeps the regions on the devices; `batch(step)` cuts the patches there.

    Args:
      regions: by name.
      sampling: what the config says of patches.
      sections: of a patch, see `yseg.config.Model`.
      seed: of the draws.
      devices: that share the batch out; None = those of `yseg.parallel.devices_for`.
      images: the `images` of another reader of the same regions, to share them.
    """

    def __init__(self, regions: Mapping[str, Region], *, sampling: Sampling, sections: int, seed: int,
                 devices: parallel.Devices | None = None, images: Raw | None = None) -> None:
        self.devices = devices = devices or parallel.devices_for(sampling.batch_size)
        self.index = parallel.spread(parallel.share(sampling.batch_size, devices), devices)
        self.keys = parallel.replicate(domain_keys(seed), devices)
        self.images = images or parallel.replicate({
            name: region.grid.image(region.image, region.box) for name, region in regions.items()
            if not (name == "joint" and "target" in regions)}, devices)  # the target's image, see `_cut_batch`
        more = {f"{name}_statistics": np.array(region.statistics, np.float32) for name, region in regions.items()}
        more |= {LABELS[name]: _read_labels(region) for name, region in regions.items() if name in LABELS}
        more |= {_mask_of(name): region.grid.image(region.mask, region.box) for name, region in regions.items()
                 if region.mask is not None}
        self.volumes: Raw = {**self.images, **parallel.replicate(more, devices)}
        self.cut = functools.partial(
            _cut_batch, boxes={name: region.patch_boxes for name, region in regions.items()}, patch_size=sampling.patch_size,
            sections=sections)
        self._mapped = parallel.map_shares(self.cut, devices)

    def relabel(self, labels: ts.TensorStore) -> None:
        """Give the target pseudo-labels int8 [z, y, x], on the working pixels of its region; from now on batches have them."""
        self.volumes = {**self.volumes, **parallel.replicate({PSEUDO_LABELS: labels.read().result()}, self.devices)}

    def batch(self, step: int) -> Raw:
        """The raw patches of a step."""
        return self._mapped(self.volumes, self.index, (parallel.replicate(np.int32(step), self.devices), self.keys))

    def of_target(self) -> "ResidentReader":
        """A reader of the target that may be used between the batches of this one."""
        return self


def _read_labels(region):
    """The labels of a region's box, int8 or wider [z, y, x]; -1 outside its parts."""
    if region.parts is None:
        return region.grid.labels(*region.truth, region.box)
    labels = None
    for part, place in zip(region.parts, region.patch_boxes, strict=True):
        read = region.grid.labels(*region.truth, part)
        labels = np.full(region.box.shape, -1, read.dtype) if labels is None else labels
        labels[place.slices] = read
    return labels


def _cut(volume, corner, patch_size, sections):
    """Patch `[y, x, section]` of a volume `[z, y, x]`."""
    numbers = section_numbers(corner[0], sections, volume.shape[0])
    cut = [jax.lax.dynamic_slice(volume, (number, corner[1], corner[2]), (1, patch_size, patch_size)) for number in numbers]
    return jnp.concatenate(cut).transpose(1, 2, 0)


def _mask_of(name):
    """The name of the mask of a region."""
    return f"{name}_mask"


def _with_tissue(mask, patch_size, corners):
    """That of several corners [try, 3] at which a patch of a mask [z, y, x] has tissue, see TRIES."""
    counts = jax.vmap(lambda corner: jnp.sum(_cut(mask, corner, patch_size, 1), dtype=jnp.int32))(corners)
    enough = counts >= ENOUGH * patch_size**2
    return corners[jnp.where(jnp.any(enough), jnp.argmax(enough), jnp.argmax(counts))]


def _cut_batch(volumes, index, draws, *, boxes, patch_size, sections):
    """The raw patches of one device: `index` [sample] are its samples, `draws` the step and the keys by name. Pure."""
    step, keys = draws
    raw = {"index": index}
    for name, of_name in boxes.items():
        image = volumes[name] if name in volumes else volumes["target"]
        mask = volumes.get(_mask_of(name))
        corners = candidates(keys[name], step, index, boxes=of_name, patch_size=patch_size, tries=1 if mask is None else TRIES)
        corners = corners[:, 0] if mask is None else jax.vmap(functools.partial(_with_tissue, mask, patch_size))(corners)
        raw[name] = jax.vmap(lambda corner, image=image: _cut(image, corner, patch_size, sections))(corners)
        raw[f"{name}_statistics"] = volumes[f"{name}_statistics"]
        labels_name = PSEUDO_LABELS if name == "target" else LABELS[name]
        if labels_name in volumes:
            labels = volumes[labels_name]
            raw[labels_name] = jax.vmap(lambda corner, labels=labels: _cut(labels, corner, patch_size, 1)[..., 0])(corners)
    return raw


class StreamingReader:
    """Reads each patch of the regions from its volume, `READ_AHEAD` steps ahead of `batch(step)`. See `ResidentReader`."""

    def __init__(self, regions: Mapping[str, Region], *, sampling: Sampling, sections: int, seed: int,
                 devices: parallel.Devices | None = None) -> None:
        self._regions, self._sampling, self._sections, self._seed, self._devices = regions, sampling, sections, seed, devices
        self._index = parallel.share(sampling.batch_size, devices)
        with parallel.on_the_host():
            self._keys = domain_keys(seed)
        self._ahead: collections.deque = collections.deque()
        self._pseudo_labels: ts.TensorStore | None = None

    def relabel(self, labels: ts.TensorStore) -> None:
        """Give the target pseudo-labels, as `ResidentReader.relabel`."""
        self._pseudo_labels = labels
        self._ahead.clear()

    def batch(self, step: int) -> Raw:
        """The raw patches of a step, as `ResidentReader.batch`; fastest if the steps follow each other."""
        if not self._ahead or self._ahead[0][0] != step:
            self._ahead = collections.deque((later, self._request(later)) for later in range(step, step + READ_AHEAD))
        _, requests = self._ahead.popleft()
        self._ahead.append((step + READ_AHEAD, self._request(step + READ_AHEAD)))
        return self._collect(requests)

    def of_target(self) -> "StreamingReader":
        """A reader of the target that may be used between the batches of this one, whose patches stay read ahead."""
        return StreamingReader({"target": self._regions["target"]}, sampling=self._sampling, sections=self._sections,
                               seed=self._seed, devices=self._devices)

    def _request(self, step):
        """Start to read every patch of a step: {name: [request, ...] in the order of the index}."""
        requests = {}
        for name, region in self._regions.items():
            with parallel.on_the_host():  # an accelerator would be waited for at every step
                corners = np.asarray(candidates(self._keys[name], np.int32(step), self._index.ravel(), boxes=region.patch_boxes,
                                                patch_size=self._sampling.patch_size, tries=1 if region.mask is None else TRIES))
            chosen = [self._with_tissue(region, several) for several in corners]
            requests[name] = [self._request_image(region, corner) for corner in chosen]
            if name in LABELS:
                boxes = [self._box(region, corner, corner[0]) for corner in chosen]
                requests[LABELS[name]] = [region.grid.request_labels(*region.truth, box) for box in boxes]
            elif self._pseudo_labels is not None:
                side = self._sampling.patch_size
                requests[PSEUDO_LABELS] = [self._pseudo_labels[z:z + 1, y:y + side, x:x + side].read() for z, y, x in chosen]
        return requests

    def _with_tissue(self, region, corners):
        """That of several corners [try, 3] at which a patch of a region has tissue, see TRIES."""
        if region.mask is None:
            return corners[0]
        counts: list[int] = []
        for corner in corners:
            counts.append(int(np.count_nonzero(region.grid.image(region.mask, self._box(region, corner, corner[0])))))
            if counts[-1] >= ENOUGH * self._sampling.patch_size**2:
                return corner
        return corners[int(np.argmax(counts))]

    def _request_image(self, region, corner):
        numbers = section_numbers(corner[0], self._sections, region.box.shape[0])
        return [region.grid.request(region.image, self._box(region, corner, number)) for number in numbers]

    def _box(self, region, corner, section):
        side = self._sampling.patch_size
        z, y, x = triple(first + offset for first, offset in zip(region.box.start, (section, *corner[1:]), strict=True))
        return Box((z, y, x), (z + 1, y + side, x + side))

    def _collect(self, requests):
        raw = {"index": self._index}
        for name, region in self._regions.items():
            patches = [np.concatenate([part.result() for part in parts]).transpose(1, 2, 0) for parts in requests[name]]
            raw[name] = self._by_device(patches)
            raw[f"{name}_statistics"] = np.stack([np.array(region.statistics, np.float32)] * len(self._index))
            labels_name = PSEUDO_LABELS if name == "target" else LABELS[name]
            if labels_name in requests:
                raw[labels_name] = self._by_device([request.result()[0] for request in requests[labels_name]])
        return parallel.spread(raw, self._devices)

    def _by_device(self, patches):
        return np.stack(patches).reshape(*self._index.shape, *patches[0].shape)


Reader = ResidentReader | StreamingReader


def batches_together(readers: Sequence[Reader]) -> Callable[[int], Raw]:
    """`batch(step)` of several readers, with an axis of readers behind that of devices.

    Resident readers that share their images and cut from the same boxes do it in one call.
    """
    resident = [reader for reader in readers if isinstance(reader, ResidentReader)]
    if len(resident) == len(readers) and all(
            reader.images is resident[0].images and reader.cut.keywords == resident[0].cut.keywords for reader in resident):
        first = resident[0]
        keys = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(reader.keys for reader in resident))

        def cut(volumes, index, draws):
            step, keys = draws
            return jax.vmap(lambda own: first.cut(volumes, index, (step, own)))(keys)

        mapped = parallel.map_shares(cut, first.devices)
        return lambda step: mapped(first.volumes, first.index, (parallel.replicate(np.int32(step), first.devices), keys))

    def batch(step):
        return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *(reader.batch(step) for reader in readers))

    return batch


def is_resident(regions: Mapping[str, Region], sampling: Sampling) -> bool:
    """Whether `sampling` asks for a resident reader of the regions: "auto" does if the working volumes fit into its limit."""
    if sampling.reader != "auto":
        return sampling.reader == "resident"
    size = sum(int(np.prod(region.box.shape)) * (region.image.dtype.numpy_dtype.itemsize + (region.labels is not None))
               for region in regions.values())
    return size <= sampling.resident_limit_gib * 2**30


def make_reader(regions: Mapping[str, Region], *, sampling: Sampling, sections: int, seed: int,
                devices: parallel.Devices | None = None, images: Raw | None = None) -> Reader:
    """The reader of some regions that `sampling` asks for; the arguments are those of `ResidentReader`."""
    if is_resident(regions, sampling):
        return ResidentReader(regions, sampling=sampling, sections=sections, seed=seed, devices=devices, images=images)
    return StreamingReader(regions, sampling=sampling, sections=sections, seed=seed, devices=devices)
