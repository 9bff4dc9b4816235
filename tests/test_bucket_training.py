"""A training and an adaptation whose volumes lie in a bucket, through an outage of the service."""

import dataclasses
import threading

import jax
import numpy as np
from tiny import experiment

import yseg
from yseg.config import Optimizer, Record, Sampling, SelfTraining
from yseg.runs import session
from yseg.runs.folder import load_state, read_config
from yseg.volumes.create import create_volume
from yseg.volumes.volume import open_volume


def config(folder):
    """Both stages on volumes that are written into a folder or bucket, and read as they are needed."""
    base = experiment(method="self_training", self_training=SelfTraining(steps=4, renew_every=2),
                      optimizer=Optimizer(steps=6, warmup_steps=1),
                      sampling=Sampling(patch_size=16, batch_size=2, reader="streaming"),
                      record=Record(log_every=1, validate_every=0, checkpoint_every=3, images=0))
    found = {}
    for name in ("source", "target"):
        domain = getattr(base, name)
        paths = {content: f"{folder}/{name}_{content}.zarr" for content in ("image", "labels")}
        for content, path in paths.items():
            values = open_volume(getattr(domain, content)).read().result()
            with create_volume(path, values.shape, values.dtype, 10.0, section_nm=50.0, kind=content) as store:
                store[...] = values
        found[name] = dataclasses.replace(domain, **paths)
    return dataclasses.replace(base, **found)


def test_from_a_bucket_it_ends_as_from_a_disk_also_through_an_outage(s3, s3_server, tmp_path, monkeypatch):
    yseg.train(config(tmp_path), tmp_path / "disk", quiet=True)
    outages, usual = [], session.make_renewal

    def fail_once(*given, **more):
        renew = usual(*given, **more)

        def renewed(step, state):
            if not outages:
                s3_server.stop()
                outages.append(threading.Timer(1.0, s3_server.start))
                outages[0].start()
            return renew(step, state)

        return renewed

    monkeypatch.setattr(session, "make_renewal", fail_once)
    yseg.train(config("s3://em-data"), tmp_path / "bucket", quiet=True)
    assert outages
    for one, other in zip(*(jax.tree.leaves(load_state(tmp_path / name, read_config(tmp_path / name)))
                            for name in ("disk", "bucket")), strict=True):
        np.testing.assert_array_equal(one, other)
