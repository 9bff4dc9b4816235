"""Chunks that are damaged or missing, of every format that has chunks."""

import json
import os

import h5py
import hdf5plugin
import numpy as np
import pytest
import zarr

from yseg.config import InputError
from yseg.volumes.create import create_volume
from yseg.volumes.volume import read_volume

VALUES = np.random.default_rng(0).integers(1, 255, (4, 64, 64), np.uint8)


def write(folder, version=2, **options):
    array = zarr.create_array(folder, shape=VALUES.shape, dtype="u1", zarr_format=version, **{"chunks": (2, 32, 32)} | options)
    array[...] = VALUES
    return str(folder)


def chunk_of(folder, version, number=5):
    """The file of a chunk."""
    files = sorted(os.path.join(path, file) for path, _, files in os.walk(folder) for file in files
                   if not file.startswith(".") and file != "zarr.json")
    return files[number]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("size", [0, 1, 0.5])
def test_a_chunk_that_is_cut_short_is_one_line_with_the_file(tmp_path, version, size):
    folder = write(tmp_path / "a.zarr", version)
    file = chunk_of(folder, version)
    os.truncate(file, size if size in (0, 1) else int(os.path.getsize(file) * size))
    opened = read_volume(folder, "--image")
    with pytest.raises(InputError) as caught:
        opened.store.read().result()
    assert str(caught.value).startswith(f"--image={folder}: cannot be read (")
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(opened.store[:2, :32, :32].read().result(), VALUES[:2, :32, :32])


@pytest.mark.parametrize("options", [
    {}, {"order": "F"}, {"chunks": (3, 20, 50)}, {"version": 3}, {"version": 3, "shards": (4, 64, 64)},
    {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
    {"version": 3, "chunk_key_encoding": {"name": "v2", "separator": "."}}])
def test_missing_chunks_are_counted(tmp_path, options):
    folder = write(tmp_path / "a.zarr", **options)
    assert read_volume(folder).notes == ()
    sharded = "shards" in options
    os.remove(chunk_of(folder, options.get("version", 2), 0 if sharded else 3))
    assert read_volume(folder, "--image").notes == (f"--image={folder}: 1 chunk is missing, and read as empty",)
    assert (read_volume(folder).store.read().result() == 0).any()
    assert read_volume(folder, labels=True).notes == ()  # writers leave out what is empty
    if not sharded:
        os.remove(chunk_of(folder, options.get("version", 2), 0))
        assert "2 chunks are missing" in read_volume(folder).notes[0]


def test_missing_chunks_of_n5_precomputed_and_hdf5(tmp_path):
    for driver in ("n5", "precomputed"):
        (tmp_path / f"a.{driver}" / "s0").mkdir(parents=True)
    (tmp_path / "a.n5" / "s0" / "attributes.json").write_text(json.dumps({
        "dimensions": [64, 64, 4], "blockSize": [32, 32, 2], "dataType": "uint8", "compression": {"type": "raw"}}))
    (tmp_path / "a.precomputed" / "info").write_text(json.dumps({
        "type": "image", "data_type": "uint8", "num_channels": 1, "scales": [{
            "key": "s0", "size": [64, 64, 4], "chunk_sizes": [[32, 32, 2]], "encoding": "raw", "resolution": [5, 5, 50]}]}))
    (tmp_path / "a.precomputed" / "s0" / "0-32_0-32_0-2").write_bytes(bytes(2048))
    assert "8 chunks are missing" in read_volume(f"{tmp_path}/a.n5/s0").notes[0]
    assert "7 chunks are missing" in read_volume(f"{tmp_path}/a.precomputed").notes[0]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", VALUES.shape, "u1", chunks=(2, 32, 32))[:2, :32] = 3
    assert "6 chunks are missing" in read_volume(f"{tmp_path}/a.h5:a").notes[0]


@pytest.mark.parametrize(("name", "format"), [("a.zarr", "ome-zarr-0.5"), ("a.zarr", "ome-zarr-0.4"), ("a.n5", "n5"),
                                              ("a.precomputed", "precomputed")])
def test_missing_chunks_of_labels_that_yseg_has_written_are_said_as_it_leaves_out_none(tmp_path, name, format):
    folder = tmp_path / name
    with create_volume(str(folder), (40, 150, 140), np.uint8, 5.0, section_nm=50.0, kind="classes", format=format) as store:
        store[:20, :20] = 1
    assert read_volume(str(folder), labels=True).notes == ()
    chunk = next(path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in (
        "info", "zarr.json", ".zarray", ".zattrs", ".zgroup", "attributes.json"))
    chunk.unlink()
    assert read_volume(str(folder), "--labels", labels=True).notes == (
        f"--labels={folder}: 1 chunk is missing, and read as empty",)


def test_labels_of_precomputed_that_are_compressed_as_jpeg_are_said(tmp_path):
    folder = tmp_path / "a.precomputed"
    (folder / "5_5_50").mkdir(parents=True)
    (folder / "info").write_text(json.dumps({"type": "segmentation", "data_type": "uint8", "num_channels": 1, "scales": [{
        "key": "5_5_50", "size": [64, 64, 4], "chunk_sizes": [[64, 64, 4]], "encoding": "jpeg", "resolution": [5, 5, 50]}]}))
    (folder / "5_5_50" / "0-64_0-64_0-4").write_bytes(b"")
    assert "is compressed as JPEG" in read_volume(str(folder), labels=True).notes[0]
    assert read_volume(str(folder)).notes == ()


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize(("ending", "way"), [(".gz", "gunzip -r "), (".br", "brotli -d "), (".zst", "zstd -d -r ")])
def test_chunks_of_precomputed_that_are_compressed_files_are_refused(tmp_path, labels, ending, way):
    """As CloudVolume writes them on a disk; TensorStore finds no file of their name, and would read 0."""
    folder = tmp_path / "a.precomputed"
    (folder / "5_5_50").mkdir(parents=True)
    (folder / "info").write_text(json.dumps({"type": "image", "data_type": "uint8", "num_channels": 1, "scales": [{
        "key": "5_5_50", "size": [64, 64, 4], "chunk_sizes": [[64, 64, 2]], "encoding": "raw", "resolution": [5, 5, 50]}]}))
    plain = folder / "5_5_50" / "0-64_0-64_0-2"
    plain.write_bytes(VALUES[:2].tobytes())
    (folder / "5_5_50" / f"0-64_0-64_2-4{ending}").write_bytes(b"compressed")
    with pytest.raises(InputError) as caught:
        read_volume(str(folder), "--image", labels=labels)
    assert str(caught.value).startswith(
        f"--image={folder}: its chunks are compressed files, such as 0-64_0-64_2-4{ending}; must be decompressed, for example by"
        f" {way}{folder}/5_5_50")
    assert "\n" not in str(caught.value)
    (folder / "5_5_50" / "0-64_0-64_2-4").write_bytes(VALUES[2:].tobytes())  # by gunzip -k, which leaves the other
    np.testing.assert_array_equal(read_volume(str(folder), labels=labels).store.read().result(), VALUES)


def test_a_chunk_of_n5_that_is_cut_short_is_one_line(tmp_path):
    (tmp_path / "a.n5" / "0" / "0").mkdir(parents=True)
    (tmp_path / "a.n5" / "attributes.json").write_text(json.dumps({
        "dimensions": [64, 64, 4], "blockSize": [64, 64, 4], "dataType": "uint8", "compression": {"type": "gzip"}}))
    (tmp_path / "a.n5" / "0" / "0" / "0").write_bytes(b"\0\0\0\3")
    with pytest.raises(InputError, match=r"^--image=.*a\.n5: cannot be read \(.*0/0/0"):
        read_volume(f"{tmp_path}/a.n5", "--image").store.read().result()


@pytest.mark.parametrize("options", [{"filters": ["delta"]}, {"compressors": ["lzma"]}])
def test_what_tensorstore_does_not_read_is_one_line(tmp_path, options):
    numcodecs = pytest.importorskip("numcodecs")
    known = {"delta": numcodecs.Delta(dtype="u1"), "lzma": numcodecs.LZMA()}
    folder = write(tmp_path / "a.zarr", **{name: [known[value] for value in values] for name, values in options.items()})
    with pytest.raises(InputError) as caught:
        read_volume(folder, "--image")
    assert str(caught.value).startswith(f"--image={folder}: cannot be opened (")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"zarr_format": 2}'])
def test_damaged_metadata_are_one_line(tmp_path, text):
    for version, file in ((2, ".zarray"), (3, "zarr.json")):
        folder = write(tmp_path / f"{version}.zarr", version)
        (tmp_path / f"{version}.zarr" / file).write_text(text)
        with pytest.raises(InputError) as caught:
            read_volume(folder, "--image")
        assert str(caught.value).startswith(f"--image={folder}: ")
        assert "\n" not in str(caught.value)


# --- HDF5 ---


@pytest.mark.parametrize("compression", [hdf5plugin.Blosc(), hdf5plugin.Zstd(), hdf5plugin.LZ4(), hdf5plugin.Bitshuffle()])
def test_compressions_of_hdf5plugin_are_read(tmp_path, compression):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", data=VALUES, chunks=(1, 32, 64), compression=compression)
    np.testing.assert_array_equal(read_volume(f"{tmp_path}/a.h5").store.read().result(), VALUES)


def test_a_compression_that_nobody_has_is_named(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((1, 64, 64))
        plan.set_filter(32099, h5py.h5z.FLAG_OPTIONAL, (1,))
        space = h5py.h5s.create_simple(VALUES.shape)
        h5py.h5d.create(file.id, b"a", h5py.h5t.NATIVE_UINT8, space, dcpl=plan)
    with pytest.raises(InputError, match=r"^--image=.*a\.h5:a: is compressed by the HDF5 filter 32099 \("):
        read_volume(f"{tmp_path}/a.h5:a", "--image")


def test_a_file_that_is_cut_short_and_one_whose_data_lie_elsewhere(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", data=VALUES, chunks=(1, 64, 64), compression="gzip")
    layout = h5py.VirtualLayout(VALUES.shape, "u1")
    layout[...] = h5py.VirtualSource("a.h5", "a", VALUES.shape)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_virtual_dataset("a", layout)
        file["link"] = h5py.ExternalLink("gone.h5", "a")
    np.testing.assert_array_equal(read_volume(f"{tmp_path}/b.h5:a").store.read().result(), VALUES)
    with pytest.raises(InputError, match="must be"):
        read_volume(f"{tmp_path}/b.h5:link")
    size = os.path.getsize(tmp_path / "a.h5")
    os.truncate(tmp_path / "a.h5", size // 2)
    with pytest.raises(InputError, match=r"^--image=.*cannot be read as HDF5"):
        read_volume(f"{tmp_path}/a.h5:a", "--image")
    os.remove(tmp_path / "a.h5")
    with pytest.raises(InputError, match=r"its data lie in a\.h5, which is not there"):
        read_volume(f"{tmp_path}/b.h5:a")
