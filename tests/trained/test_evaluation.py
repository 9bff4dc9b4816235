"""An evaluation in blocks: the counts of the whole, whoever computes them."""

import dataclasses

import numpy as np
import pytest

import yseg
from yseg.data.box import Box
from yseg.data.domain import open_own_domain
from yseg.inference.engine import engine
from yseg.trained.applied import Applied
from yseg.trained.evaluation import evaluated


@pytest.fixture(scope="module")
def applied(run):
    """The run's network on all of its own target, in blocks of several sections, rows and columns."""
    network = yseg.load_run(run)
    volume = open_own_domain(network.config, "target", with_labels=True)
    region = Box.whole(volume.file_shape)
    assert all(size > 2 for size in region.shape)
    block = tuple(size // 2 + 1 for size in region.shape)
    return Applied(network, network.config.target, region, block, 0.4, own="target", with_labels=True, volume=volume)


def in_one_block(applied, kept):
    whole = dataclasses.replace(applied, block=applied.region.shape)
    with engine() as workers:
        counts, classes = evaluated(whole, [kept], workers, quiet=True)
    return counts, classes[0]


@pytest.mark.parametrize("scheduler", ["", pytest.param("local:2", marks=pytest.mark.slow)])
def test_counts_and_classes_of_blocks_are_those_of_the_whole(applied, scheduler):
    kept = Box((1, 3, 2), tuple(size - 1 for size in applied.region.shape))
    one = Box((1, 5, 2), (2, *(size - 1 for size in applied.region.shape[1:])))  # a section, in several blocks
    assert len(applied.blocks) == 8
    with engine(scheduler) as workers:
        counts, (classes, section) = evaluated(applied, [kept, one], workers, quiet=True)
    expected, expected_classes = in_one_block(applied, kept)
    assert counts.matrices.sum() == np.prod(applied.region.shape)
    np.testing.assert_array_equal(counts.matrices.sum(axis=(2, 3)), expected.matrices.sum(axis=(2, 3)))
    assert np.abs(counts.matrices - expected.matrices).sum() <= 4  # a voxel at the threshold may round to the other side
    assert (classes != expected_classes).sum() <= 2
    assert 0 < classes.mean() < 1
    np.testing.assert_array_equal(section, classes[one.relative_to(kept).slices])


@pytest.mark.slow
def test_workers_score_a_run_as_this_process_does(run):
    results = [yseg.evaluate(run, scheduler=scheduler, quiet=True) for scheduler in ("", "local:2")]
    for each in results:
        each.pop("wall_time")
    assert results[0] == results[1]


def test_a_scheduler_that_there_is_not_is_told_before_anything_is_opened(tmp_path):
    with pytest.raises(yseg.InputError, match=r"^--scheduler=there: must be"):
        yseg.evaluate(tmp_path / "none", scheduler="there")
