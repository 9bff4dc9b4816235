"""Tiny experiments on the phantom, for the tests of what trains a run; volumes that tell what is read of them."""

import tensorstore as ts

from yseg.config import Domain, Experiment, Inference, Model, Optimizer, Record, Sampling, no_augmentation


def domain(name, sections=3, seed=2, **fields):
    """The phantom's "source" or "target", of 64 x 96 voxels a section; the default seed has foreground in both."""
    image, labels = (f"phantom://{name}/{content}?shape={sections},64,96&seed={seed}" for content in ("image", "labels"))
    return Domain(**{"image": image, "labels": labels, "foreground": ">0", "pixel_size_nm": 10.0} | fields)


def experiment(**fields):
    """Four steps of a network of one level, without augmentation, which takes most of the time to compile a step."""
    defaults = {
        "source": domain("source", validation_fraction=0.3), "target": domain("target", test_fraction=0.3),
        "sampling": Sampling(patch_size=16, batch_size=2), "augmentation": no_augmentation(),
        "model": Model(levels=1, features=4), "optimizer": Optimizer(steps=4, warmup_steps=1),
        "inference": Inference(tile_size=64, overlap=4), "record": Record(validate_every=0, images=0)}
    return Experiment(**defaults | fields)


def counted(array, chunk=None):
    """(TensorStore, reads) of an array [z, y, x]: each read of a chunk (default: a section) appends its index to the list."""
    reads = []

    def read(place, values, _):
        reads.append(place.index_exp)
        values[...] = array[place.index_exp]

    layout = ts.ChunkLayout(read_chunk_shape=chunk or (1, *array.shape[1:]))
    return ts.virtual_chunked(read, dtype=ts.dtype(array.dtype), shape=array.shape, chunk_layout=layout), reads
