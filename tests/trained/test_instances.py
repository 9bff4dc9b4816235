"""Instances of a volume that is segmented in blocks: those of the whole, in every format, with their table, after any kill."""

import csv
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from instanced import instances
from scipy import ndimage

import yseg
from yseg.config import Model
from yseg.metrics.object_table import COLUMNS
from yseg.trained import instances as stages
from yseg.trained.network import load_run
from yseg.volumes.arrays import create_array
from yseg.volumes.staged import place_of
from yseg.volumes.table import table_of
from yseg.volumes.volume import open_volume

IMAGE = "phantom://target/image?shape=7,70,100&seed=3"
SIZE = (50.0, 10.0, 10.0)
GIVEN = {"pixel_size_nm": SIZE[1], "section_nm": SIZE[0], "block": "4,32,64", "quiet": True}


@pytest.fixture(scope="module")
def threshold(run, tmp_path_factory):
    """At which a third is foreground."""
    output = tmp_path_factory.mktemp("probability") / "a.zarr"
    yseg.segment(run, IMAGE, output, what="probability", **GIVEN)
    return float(np.quantile(open_volume(f"{output}/0").read().result(), 0.67))


def segment(run, output, threshold, **more):
    yseg.segment(run, IMAGE, output, **GIVEN | {"what": "instances", "threshold": threshold, "least_nm": 40.0} | more)


@pytest.fixture(scope="module")
def expected(run, threshold, tmp_path_factory):
    """(classes, probability, instances of them in one block)."""
    output = tmp_path_factory.mktemp("both") / "a.zarr"
    yseg.segment(run, IMAGE, output, what="both", threshold=threshold, **GIVEN)
    classes, probability = (open_volume(f"{str(output)[:-5]}{end}/0").read().result() for end in (".zarr", "_probability.zarr"))
    ids, _ = instances(classes == 1, classes.shape, SIZE, least_nm=40.0)
    assert ids.max() > 5
    return classes, probability, ids


def rows_of(output):
    with open(table_of(str(output)), newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("name", "inner"), [("a.zarr", "/0"), ("a.n5", "/s0"), ("a.precomputed", ""), ("a.tif", ""),
                                             ("a.h5:ids", "")])
def test_blocks_have_the_instances_of_the_whole_in_every_format_and_a_table(run, threshold, expected, tmp_path, name, inner):
    output = tmp_path / name
    segment(run, output, threshold)
    found = open_volume(f"{output}{inner}").read().result()
    np.testing.assert_array_equal(found, expected[2])
    assert found.dtype == np.uint32
    assert {path.name for path in tmp_path.iterdir()} == {name.removesuffix(":ids"), f"{name.replace(':', '.')}.csv"}
    rows, (_, probability, ids) = rows_of(output), expected
    assert [int(row["id"]) for row in rows] == list(range(1, ids.max() + 1))
    assert list(rows[0]) == list(COLUMNS)
    for row, place in zip(rows, ndimage.find_objects(ids), strict=True):
        own = ids == int(row["id"])
        assert int(row["voxels"]) == own.sum()
        assert float(row["volume_um3"]) == pytest.approx(own.sum() * np.prod(SIZE) * 1e-9, rel=1e-5)
        assert float(row["mean_probability"]) == pytest.approx(probability[own].mean(dtype=float), rel=1e-5)
        assert [int(row[column]) for column in COLUMNS[4:10]] == [at for each in place for at in (each.start, each.stop)]


def test_without_separation_they_are_connected_components(run, threshold, expected, tmp_path):
    segment(run, tmp_path / "a.zarr", threshold, separate=False, least_nm=0.0)
    found = open_volume(f"{tmp_path}/a.zarr/0").read().result()
    np.testing.assert_array_equal(found, ndimage.label(expected[0])[0])


def test_boxes_and_places_of_a_region_are_those_of_the_image(run, threshold, tmp_path):
    for name, region in (("a", None), ("b", "2:7,10:70,:")):
        segment(run, tmp_path / f"{name}.zarr", threshold, region=region)
    whole, part = ({tuple(row[column] for column in COLUMNS[3:14]): row for row in rows_of(tmp_path / f"{name}.zarr")}
                   for name in "ab")
    inner = [row for row in part.values() if int(row["z0"]) > 2 and int(row["y0"]) > 10]
    assert inner
    assert any(tuple(row[column] for column in COLUMNS[3:14]) in whole for row in inner)


def test_the_summary_is_said_and_drawn(run, threshold, expected, tmp_path, capsys):
    segment(run, tmp_path / "a.zarr", threshold, quiet=False)
    count, said = int(expected[2].max()), capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"{count} instances, {count / (49000 * 5e-6):g} in a µm³ of tissue; median volume")
    assert (run / "report" / "instances.png").read_bytes().startswith(b"\x89PNG")
    assert f'"count": {count}' in (run / "report" / "instances.json").read_text()


def test_without_a_section_distance_volumes_are_in_voxels_as_one_line_says(run, threshold, tmp_path, capsys):
    image = str(tmp_path / "image.zarr")
    values = open_volume(IMAGE).read().result()
    with create_array(image, values.shape, np.uint8, SIZE[1]) as store:
        store.write(values).result()
    yseg.segment(run, image, tmp_path / "a.zarr", pixel_size_nm=SIZE[1], what="instances", threshold=threshold)
    assert "the distance of sections is unknown, so volumes are in voxels" in capsys.readouterr().err.splitlines()[-1]
    rows = rows_of(tmp_path / "a.zarr")
    assert {row["volume_um3"] for row in rows} == {""}
    assert all(int(row["voxels"]) > 0 for row in rows)


def test_tissue_is_what_was_looked_at(run, threshold, tmp_path, capsys):
    mask, values = str(tmp_path / "mask.zarr"), np.zeros((7, 70, 100), np.uint8)
    values[1:, 5:60, 8:90] = 1
    with create_array(mask, values.shape, np.uint8, SIZE[1]) as store:
        store.write(values).result()
    segment(run, tmp_path / "a.zarr", threshold, mask=mask, quiet=False)
    count = len(rows_of(tmp_path / "a.zarr"))
    line = capsys.readouterr().err.splitlines()[-1]
    assert float(line.split(", ")[1].split()[0]) == pytest.approx(count / (values.sum() * 5e-6), rel=1e-5)


def test_nothing_is_overwritten_without_being_asked_to(run, threshold, tmp_path):
    output, table = tmp_path / "a.zarr", tmp_path / "a.zarr.csv"
    table.write_text("mine\n")
    with pytest.raises(yseg.InputError, match=r"its table .*a.zarr.csv: exists and is not what yseg wrote there"):
        segment(run, output, threshold, overwrite=True)
    table.unlink()
    table.symlink_to(tmp_path / "elsewhere.csv")
    with pytest.raises(yseg.InputError, match="is not what yseg wrote there"):
        segment(run, output, threshold, overwrite=True)
    table.unlink()
    segment(run, output, threshold)
    before = table.read_bytes()
    with pytest.raises(yseg.InputError, match="give --overwrite"):
        segment(run, output, threshold, separate=False)
    assert table.read_bytes() == before
    segment(run, output, threshold, least_nm=150.0, overwrite=True)
    assert len(rows_of(output)) < before.count(b"\n") - 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "a.zarr.csv"]


def test_instances_of_another_rule_are_not_mixed_in(run, threshold, tmp_path):
    segment(run, tmp_path / "a.zarr", threshold, part="0/2")
    for changed in ({"least_nm": 10.0}, {"separate": False}, {"what": "both", "least_nm": None}):
        with pytest.raises(yseg.InputError, match="holds blocks of another segmentation"):
            segment(run, tmp_path / "a.zarr", threshold, **changed)


def test_networks_of_several_classes_have_none(run, tmp_path):
    network, model = load_run(run), Model(levels=1, features=4, classes=3)
    several = dataclasses.replace(network, config=dataclasses.replace(network.config, model=model))
    with pytest.raises(yseg.InputError, match=r"^--what=instances: must be another, as the network has 3 classes"):
        yseg.segment(several, IMAGE, tmp_path / "a.zarr", what="instances", **GIVEN)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stage", ["fragments", "_relabel_block"])
def test_what_is_broken_off_in_any_stage_goes_on(run, threshold, expected, tmp_path, monkeypatch, stage):
    usual, calls = getattr(stages, stage), []

    def broken(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return usual(*arguments, **options)

    monkeypatch.setattr(stages, stage, broken)
    with pytest.raises(KeyboardInterrupt):
        segment(run, tmp_path / "a.zarr", threshold)
    assert [path.name for path in tmp_path.iterdir()] == [".a.zarr.blocks"]
    segment(run, tmp_path / "a.zarr", threshold)
    assert len(calls) == 12 + 1  # each block once, and that which was broken off again
    np.testing.assert_array_equal(open_volume(f"{tmp_path}/a.zarr/0").read().result(), expected[2])


CHILD = """
import sys
from test_instances import segment
if __name__ == "__main__":
    segment(sys.argv[1], sys.argv[2], float(sys.argv[3]), scheduler=sys.argv[4], overwrite=True)
"""


def start(tmp_path, run, output, threshold, scheduler):
    """A process that segments."""
    script, tests = tmp_path / "child.py", Path(__file__).parents[1]
    script.write_text(CHILD)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tests.parent, tests, Path(__file__).parent)))}
    return subprocess.Popen([sys.executable, str(script), str(run), str(output), repr(threshold), scheduler], env=environment)


@pytest.mark.slow
def test_workers_that_are_killed_with_their_scheduler_change_no_id(run, threshold, expected, tmp_path):
    output = tmp_path / "out" / "a.zarr"
    output.parent.mkdir()
    for stage in ("done", "known", "relabelled"):
        child, marks = start(tmp_path, run, output, threshold, "local:2"), Path(place_of(str(output)), stage)
        while child.poll() is None and len(list(marks.glob("*"))) < 2:
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert start(tmp_path, run, output, threshold, "local:3").wait() == 0
    np.testing.assert_array_equal(open_volume(f"{output}/0").read().result(), expected[2])
    assert len(rows_of(output)) == expected[2].max()
    assert not list(output.parent.glob(".*"))


def test_in_a_bucket_the_table_lies_beside_the_volume(run, threshold, expected, s3):
    segment(run, "s3://em-data/a.zarr", threshold)
    np.testing.assert_array_equal(open_volume("s3://em-data/a.zarr/0").read().result(), expected[2])
    text = s3.get_object(Bucket="em-data", Key="a.zarr.csv")["Body"].read().decode()
    assert len(text.splitlines()) == 1 + expected[2].max()
    assert not [found["Key"] for found in s3.list_objects_v2(Bucket="em-data")["Contents"] if ".blocks" in found["Key"]]
    with pytest.raises(yseg.InputError, match=r"a.zarr: exists already; give --overwrite"):
        segment(run, "s3://em-data/a.zarr", threshold)
    segment(run, "s3://em-data/a.zarr", threshold, overwrite=True)
