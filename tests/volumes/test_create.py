"""yseg.volumes.create: every format is read by another reader and is there whole or not at all; refusals are one line."""

import json
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import tifffile
import z5py
import zarr
from compressed_segmentation import decompress

import yseg
from yseg.config import InputError
from yseg.volumes.create import check_output, create_volume, outputs_of
from yseg.volumes.volume import open_volume

SHAPE = (5, 150, 140)
NAMES = {"ome-zarr-0.5": "a.zarr", "ome-zarr-0.4": "b.zarr", "n5": "c.n5", "precomputed": "d.precomputed", "tiff": "e.tif",
         "ome-tiff": "f.ome.tif", "hdf5": "g.h5:raw"}
every_format = pytest.mark.parametrize("format", NAMES)


def voxels(kind="image", shape=SHAPE):
    random = np.random.default_rng(0)
    if kind == "probability":
        return random.random(shape, np.float32)
    return random.integers(0, 2 if kind == "classes" else 255, shape).astype(np.uint8)


def write(spec, values, kind="image", **options):
    with create_volume(str(spec), values.shape, values.dtype, 4.6, section_nm=50.0, kind=kind, **options) as store:
        store[...] = values


def read_n5(path):
    return z5py.File(str(path), "r", use_zarr_format=False)["s0"][:]


def read_precomputed(path):
    """By hand, as the format is described: chunks X-X_Y-Y_Z-Z with x fastest."""
    info = json.loads((path / "info").read_text())
    scale, dtype = info["scales"][0], np.dtype(info["data_type"])
    values = np.empty(scale["size"], dtype)
    for file in (path / scale["key"]).iterdir():
        place = tuple(slice(*map(int, span.split("-"))) for span in file.name.split("_"))
        shape = [part.stop - part.start for part in place]
        if scale["encoding"] == "raw":
            values[place] = np.frombuffer(file.read_bytes(), dtype).reshape(shape, order="F")
        else:
            found = decompress(file.read_bytes(), (*shape, 1), dtype, tuple(scale["compressed_segmentation_block_size"]), "F")
            values[place] = found.reshape(shape)
    return values.T


def read_hdf5(path):
    with h5py.File(path, "r") as file:
        return file["raw"][...]


READERS = {"ome-zarr-0.5": lambda path: zarr.open_array(path / "0", mode="r")[...],
           "ome-zarr-0.4": lambda path: zarr.open_array(path / "0", mode="r", zarr_format=2)[...],
           "n5": read_n5, "precomputed": read_precomputed, "tiff": tifffile.imread, "ome-tiff": tifffile.imread,
           "hdf5": read_hdf5}


def read_by_another(path, format):
    return READERS[format](path.with_name(path.name.split(":")[0]))


def read_by_us(path, format):
    inner = {"ome-zarr-0.5": "/0", "ome-zarr-0.4": "/0", "n5": "/s0"}.get(format, "")
    return open_volume(f"{path}{inner}").read().result()


@every_format
@pytest.mark.parametrize("kind", ["classes", "probability", "image"])
def test_another_reader_and_ours_see_what_was_written(tmp_path, format, kind):
    values, path = voxels(kind), tmp_path / "für µm #1 [50%] ?" / f"Größe #2 {NAMES[format]}"
    write(path, values, kind, format=format)
    for read in (read_by_another, read_by_us):
        found = read(path, format)
        np.testing.assert_array_equal(found, values)
        assert found.dtype == (np.uint32 if (format, kind) == ("precomputed", "classes") else values.dtype)
    assert os.listdir(path.parent) == [path.name.split(":")[0]]


@every_format
def test_values_may_come_in_any_order_and_one_section_is_a_volume(tmp_path, format):
    values, path = voxels(shape=(1, 33, 20)), tmp_path / NAMES[format]
    with create_volume(str(path), values.shape, values.dtype, 4.6, kind="image", format=format) as store:
        for start in (20, 0, 10, 30):
            store[:, start:min(start + 10, 33)] = values[:, start:start + 10]
    np.testing.assert_array_equal(read_by_another(path, format).reshape(values.shape), values)


@every_format
def test_nothing_half_written_is_left(tmp_path, format):
    path = tmp_path / NAMES[format]
    with pytest.raises(KeyboardInterrupt), create_volume(str(path), SHAPE, np.uint8, 5, format=format) as store:  # noqa: PT012
        store[...] = 1
        assert not path.exists()
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


@every_format
def test_an_output_is_replaced_only_on_demand_and_only_by_a_whole_one(tmp_path, format):
    path, values = tmp_path / NAMES[format], voxels()
    write(path, values, format=format)
    with pytest.raises(InputError, match=r"^--output=.*give --overwrite to replace it$"):
        check_output(str(path), format=format)
    with pytest.raises(ZeroDivisionError), create_volume(str(path), SHAPE, np.uint8, 5, overwrite=True, format=format):
        raise ZeroDivisionError
    np.testing.assert_array_equal(read_by_another(path, format), values)
    write(path, values[1:] + 1, format=format, overwrite=True)
    np.testing.assert_array_equal(read_by_another(path, format), values[1:] + 1)
    assert len(os.listdir(tmp_path)) == 1


KILLED = """
import sys
import numpy as np
from yseg.volumes.create import create_volume
with create_volume(sys.argv[1], (12, 700, 700), np.uint8, 5, kind="image", overwrite=True) as store:
    store[...] = 7
    print("written", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.zarr", "a.n5", "a.precomputed", "a.tif", "a.h5"])
@pytest.mark.parametrize("before", [False, True])
def test_a_killed_writer_leaves_the_old_volume_or_the_new_one(tmp_path, name, before):
    path = tmp_path / name
    if before:
        write(path, np.full((12, 700, 700), 3, np.uint8))
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE,
                             cwd=os.path.dirname(yseg.__path__[0]))
    child.stdout.readline()
    time.sleep(np.random.default_rng().random() * 0.1)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    if path.exists():
        inner = {"a.zarr": "/0", "a.n5": "/s0", "a.h5": ":exported_data"}.get(name, "")
        (value,) = np.unique(open_volume(f"{path}{inner}").read().result())
        assert value in ((3, 7) if before else (7,))
    else:  # the kill was between the renames of `yseg.files`, which keeps both; or there never was one
        assert not before or list(tmp_path.glob(f".{name}.*.replaced"))
    write(path, np.full((2, 9, 9), 5, np.uint8), overwrite=True)  # nothing is in the way


@pytest.fixture
def small_disk(tmp_path):
    """A folder with room for 3 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True, text=True,
                             check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@every_format
@pytest.mark.parametrize("sections", [11, 150])
def test_a_full_disk_is_one_line_and_leaves_nothing(small_disk, format, sections):
    """11 sections still fit beside the output, and 150 do not."""
    path = small_disk / NAMES[format]
    with pytest.raises(OSError, match="No space left on device") as caught:
        write(path, voxels(shape=(sections, 512, 512)), format=format)
    assert caught.value.filename == str(path)
    assert "\n" not in str(caught.value)
    assert os.listdir(small_disk) == []
    write(path, voxels(shape=(2, 256, 256)), format=format)


def test_a_finished_volume_is_kept_if_its_name_was_taken_in_the_meantime(tmp_path):
    path = tmp_path / "a.zarr"
    with pytest.raises(OSError, match="stays in") as caught, create_volume(str(path), (1, 2, 3), np.uint8, 5) as store:  # noqa: PT012
        store[...] = 1
        path.mkdir()
        (path / "thesis.tex").write_text("x")
    assert os.listdir(path) == ["thesis.tex"]
    (kept,) = tmp_path.glob(".a.zarr.*")
    assert str(kept) in str(caught.value)
    assert (open_volume(str(kept / "0")).read().result() == 1).all()


def test_what_takes_the_place_of_a_file_in_the_meantime_stays(tmp_path):
    path = tmp_path / "a.tif"
    refused = pytest.raises(InputError, match=r"^--output=.*will not be replaced")
    with refused, create_volume(str(path), (1, 2, 3), np.uint8, 5) as store:
        store[...] = 1
        path.write_text("thesis")
    assert path.read_text() == "thesis"


@pytest.mark.parametrize(("spec", "options", "said"), [
    ("a", {}, "must end in one of .zarr, .n5, .precomputed"), ("a.png", {}, "must end in one of"),
    ("http://host/a.zarr", {}, "must end in one of"), ("s3://bucket", {}, "must end in one of"),
    ("s3://bucket.zarr", {}, "must end in one of"), ("s3://bucket/a.tif", {}, "must end in one of"),
    ("a.zarr", {"format": "n5"}, "--format=n5: must be one of ome-zarr-0.5, ome-zarr-0.4 for --output=a.zarr"),
    ("a.zarr", {"format": "png"}, "--format=png: must be one of ome-zarr-0.5"),
    ("a.precomputed", {"dtype": np.float64}, "--output=a.precomputed: cannot hold values of type float64; must be uint8,"),
    ("a.tif", {"dtype": np.uint64}, "cannot hold values of type uint64"),
    ("a.zarr", {"dtype": np.complex64}, "cannot hold values of type complex64"),
    ("file/a.zarr", {}, "cannot be created"), ("file/b/a.tif", {}, "cannot be created"),
])
def test_an_output_that_cannot_be_is_one_line(tmp_path, monkeypatch, spec, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError) as caught:
        check_output(spec, **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["file"]


@every_format
def test_a_backslash_in_a_path_is_refused_and_nothing_is_written(tmp_path, monkeypatch, format):
    r"""TensorStore takes \ for /."""
    (tmp_path / "a\\b").mkdir()
    os.symlink(tmp_path / "a\\b", tmp_path / "link")
    with pytest.raises(InputError) as caught:
        write(tmp_path / f"x\\{NAMES[format]}", voxels(), format=format)
    assert "x\\" in str(caught.value)
    assert str(caught.value).endswith("; must be a path with / and without \\")
    assert "\n" not in str(caught.value)
    monkeypatch.chdir(tmp_path / "a\\b")
    for spec in (NAMES[format], tmp_path / "link" / NAMES[format]):
        with pytest.raises(InputError, match=r"^--output=.*: lies in .*a\\b.*; must be a path with /"):
            write(spec, voxels(), format=format)
    assert sorted(os.listdir(tmp_path)) == ["a\\b", "link"]
    assert os.listdir(tmp_path / "a\\b") == []


@every_format
def test_a_folder_may_be_named_like_a_file_of_hdf5(tmp_path, format):
    values = voxels()
    for folder in ("x.h5:y", "x.h5:y.h5:z", "x.h5"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / NAMES[format], values, format=format)
        np.testing.assert_array_equal(read_by_another(tmp_path / folder / NAMES[format], format), values)
        np.testing.assert_array_equal(read_by_us(tmp_path / folder / NAMES[format], format), values)


def test_a_dataset_of_hdf5_may_have_a_backslash_in_its_name(tmp_path):
    values = voxels(shape=(2, 9, 9))
    write(tmp_path / "a.h5:b\\c", values)
    np.testing.assert_array_equal(open_volume(f"{tmp_path}/a.h5:b\\c").read().result(), values)


def test_the_two_outputs_of_both_have_names_of_one_kind():
    assert outputs_of("a.zarr", "classes") == {"classes": "a.zarr"}
    assert outputs_of("a.zarr", "probability") == {"probability": "a.zarr"}
    for given, second in (("f/a.zarr", "f/a_probability.zarr"), ("s3://b/a.n5/", "s3://b/a_probability.n5"),
                          ("a.ome.tif", "a_probability.ome.tif"), ("a.h5:x/y", "a_probability.h5:x/y")):
        assert outputs_of(given, "both") == {"classes": given, "probability": second}
    with pytest.raises(InputError, match=r"^--what=all: must be one of classes, probability, both, instances$"):
        outputs_of("a.zarr", "all")
