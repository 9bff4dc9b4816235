"""Axes: names are obeyed in every format that has them, axes of length 1 are dropped, channels are never sections."""

import json

import h5py
import numpy as np
import pytest
import tensorstore as ts
import zarr

from yseg.config import InputError
from yseg.volumes.axes import Axis, arranged
from yseg.volumes.opened import Request
from yseg.volumes.volume import read_volume

VALUES = np.random.default_rng(0).integers(0, 255, (5, 20, 30), np.uint8)
REQUEST = Request("a", "--image=a", channel_flag="--channel")


def arrange(values, names, **request):
    return arranged(ts.array(values), [Axis(name) for name in names], REQUEST._replace(**request)).store.read().result()


def complaint(values, names, **request):
    with pytest.raises(InputError) as caught:
        arrange(values, names, **request)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("names", ["zyx", "xyz", "yxz", "zxy", "ZYX", ["depth", "Height", "width"],
                                   ["columns", "rows", "sections"]])
def test_axes_are_put_in_order_by_their_names(names):
    order = [{"d": 0, "s": 0, "h": 1, "r": 1, "w": 2, "c": 2}.get(name[0].lower(), "zyx".find(name[0].lower())) for name in names]
    np.testing.assert_array_equal(arrange(VALUES.transpose(order), names), VALUES)


@pytest.mark.parametrize(("shape", "names"), [
    ((1, 1, 5, 20, 30), "tczyx"), ((5, 20, 30, 1), "zyxc"), ((1, 5, 1, 20, 30), ["", "", "", "", ""]), ((5, 20, 30, 1), [""] * 4),
    ((1, 5, 20, 30), ["", "z", "y", "x"]), ((5, 20, 30), ["", "y", "x"]), ((5, 20, 30), ["", "", ""]),
    ((5, 20, 30), ["q", "r", "s_"]), ((5, 1, 20, 30), ["z", "", "", ""])])
def test_axes_of_length_1_are_dropped_and_those_without_a_name_are_what_is_missing(shape, names):
    np.testing.assert_array_equal(arrange(VALUES.reshape(shape), names), VALUES)


@pytest.mark.parametrize("form", ["{} (nm)", "{} [nm]", "{}[µm]", "{}_axis", "{}-axis", "axis {}", "dim_{}", " {} "])
@pytest.mark.parametrize("letters", ["xyz", "XYZ"])
def test_units_and_words_beside_a_name_do_not_count(form, letters):
    opened = arranged(ts.array(VALUES.T), [Axis(form.format(letter), nm) for letter, nm in zip(letters, (4, 5, 50), strict=True)],
                      REQUEST)
    np.testing.assert_array_equal(opened.store.read().result(), VALUES)
    assert (opened.voxel_nm, opened.notes) == ((50, 5, 4), ())


def test_names_that_are_not_understood_are_said_unless_libraries_give_them_or_one_alone_is_left():
    def notes(*names, shape=VALUES.shape):
        return arranged(ts.array(VALUES.reshape(shape)), [Axis(name) for name in names], REQUEST).notes

    assert notes("lon", "lat", "level") == (
        "--image=a: its axes lon, lat, level are not understood, and are taken for z, y, x; must be named z, y and x if they are"
        " others",)
    assert "its axes lon, lat are not understood, and are taken for z, y;" in notes("lon", "lat", "x")[0]
    for names in (["dim_0", "dim_1", "dim_2"], ["phony_dim_0", "phony_dim_1", "phony_dim_2"], ["d0", "d1", "d2"], ["0", "1", "2"],
                  ["", "", ""], ["lon", "y", "x"], "qyx", ["axis0", "axis1", "axis2"]):
        assert notes(*names) == ()
    assert notes("batch", "z", "y", "x", shape=(1, *VALUES.shape)) == ()


def test_a_single_section_or_row_stays_what_it_is():
    assert arrange(VALUES[0], "yx").shape == arrange(VALUES[0], ["", ""]).shape == (1, 20, 30)
    assert arrange(VALUES[0].T, "xy").shape == arrange(VALUES[:1], [""] * 3).shape == (1, 20, 30)
    assert arrange(VALUES[:, :1], ["z", "", "x"]).shape == arrange(VALUES[:, :1], "zyx").shape == (5, 1, 30)


def test_sizes_follow_their_axes():
    axes = [Axis("x", 4.0), Axis("c"), Axis("z", 50.0), Axis("y", 5.0)]
    opened = arranged(ts.array(VALUES.transpose(2, 0, 1)[:, None]), axes, REQUEST)
    assert opened.voxel_nm == (50.0, 5.0, 4.0)
    assert arranged(ts.array(VALUES), [Axis()] * 3, REQUEST).voxel_nm == (None, None, None)


@pytest.mark.parametrize("names", ["czyx", "zcyx", "zyxc", "zyxs"])
def test_a_channel_must_be_chosen_and_is_never_a_section(names):
    place = names.replace("s", "c").index("c")
    values = np.stack([VALUES, 255 - VALUES], place)
    assert "2 channels, which are not sections; choose one by --channel=0 to 1" in complaint(values, names)
    assert "must be one" in complaint(values, names, channel_flag="")
    np.testing.assert_array_equal(arrange(values, names, channel=1), 255 - VALUES)
    assert complaint(values, names, channel=2) == "--channel=2: must be below 2, the number of channels of --image=a"


def test_colours_and_channels_without_a_name():
    colours = np.stack([VALUES[0], VALUES[1], VALUES[2]], -1)  # rows, columns, colours
    assert "3 channels" in complaint(colours, ["", "", ""])
    np.testing.assert_array_equal(arrange(colours, ["", "", ""], channel=2), VALUES[2:3])
    assert "or [c, z, y, x] with --channel" in complaint(np.stack([VALUES] * 2), [""] * 4)
    np.testing.assert_array_equal(arrange(np.stack([VALUES, 255 - VALUES]), [""] * 4, channel=1), 255 - VALUES)


@pytest.mark.parametrize(("shape", "names", "said"), [
    ((3, 5, 20, 30), "tzyx", "one point in time"), ((5, 20, 30), "tyx", "if an axis holds the sections, name it z"),
    ((2, 3, 20, 30), "cczyx"[1:], ""), ((2, 2, 20, 30), "csyx", "at most one axis of channels"), ((5, 20, 30), "zyy", "must be"),
    ((5, 20, 30), "czx", "must be [z, y, x]"), ((30,), "x", "must be"), ((2, 2, 5, 20, 30), ["", "", "z", "y", "x"], "must be"),
    ((5, 20, 30), "zx", "3 axes"), ((2, 3, 4, 5, 6), [""] * 5, "2 x 3 x 4 x 5 x 6")])
def test_axes_that_make_no_volume_are_named(shape, names, said):
    assert said in complaint(np.zeros(shape, np.uint8), names)


def test_a_channel_of_a_volume_that_has_one():
    np.testing.assert_array_equal(arrange(VALUES, "zyx", channel=0), VALUES)
    assert complaint(VALUES, "zyx", channel=1) == "--channel=1: must be 0, as --image=a has one channel"


# --- In files ---


def axistags(keys):
    return json.dumps({"axes": [{"key": key, "typeFlags": 2, "resolution": 0, "description": ""} for key in keys]})


def name_axes(dataset, keys, how):
    if how == "axistags":
        dataset.attrs["axistags"] = axistags(keys)
    else:
        for number, key in enumerate(keys):
            dataset.dims[number].label = key


@pytest.mark.parametrize("how", ["axistags", "labels"])
def test_the_axes_of_hdf5_are_obeyed(tmp_path, how):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        name_axes(file.create_dataset("xyz", data=VALUES.T), "xyz", how)
        name_axes(file.create_dataset("ilastik", data=VALUES[None, ..., None]), "tzyxc", how)
        name_axes(file.create_dataset("channels", data=np.stack([VALUES, 255 - VALUES], -1)), "zyxc", how)
    for name in ("xyz", "ilastik"):
        np.testing.assert_array_equal(read_volume(f"{tmp_path}/a.h5:{name}").store.read().result(), VALUES)
    found = read_volume(f"{tmp_path}/a.h5:channels", "--config.source.image", channel=1)
    np.testing.assert_array_equal(found.store.read().result(), 255 - VALUES)
    np.testing.assert_array_equal(found.store[1:3, 4, 5:].read().result(), 255 - VALUES[1:3, 4, 5:])
    with pytest.raises(InputError, match=r"2 channels.*--config\.source\.channel=0 to 1"):
        read_volume(f"{tmp_path}/a.h5:channels", "--config.source.image")


@pytest.mark.parametrize("tags", ["{", "[]", '{"axes": 3}', axistags("zy")])
def test_axistags_that_make_no_sense_say_nothing(tmp_path, tags):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", data=VALUES).attrs["axistags"] = tags
    np.testing.assert_array_equal(read_volume(f"{tmp_path}/a.h5:a").store.read().result(), VALUES)


def test_names_that_are_not_understood_are_said_of_every_format(tmp_path):
    names = ["lon", "lat", "level"]
    zarr.create_array(tmp_path / "a.zarr", shape=VALUES.shape, dtype="u1", dimension_names=names)[...] = VALUES
    with h5py.File(tmp_path / "a.h5", "w") as file:
        name_axes(file.create_dataset("a", data=VALUES), names, "labels")
    (tmp_path / "a.n5" / "0" / "0").mkdir(parents=True)
    (tmp_path / "a.n5" / "attributes.json").write_text(json.dumps({
        "dimensions": VALUES.shape[::-1], "blockSize": VALUES.shape[::-1], "dataType": "uint8", "compression": {"type": "raw"},
        "axes": names[::-1]}))
    head = b"\0\0\0\3" + np.array(VALUES.shape[::-1], ">u4").tobytes()
    (tmp_path / "a.n5" / "0" / "0" / "0").write_bytes(head + VALUES.tobytes())
    for spec in ("a.zarr", "a.h5", "a.n5"):
        opened = read_volume(f"{tmp_path}/{spec}", "--image")
        (note,) = opened.notes
        assert note.startswith(f"--image={tmp_path}/{spec}: its axes lon, lat, level are not understood, and are taken for")
        np.testing.assert_array_equal(opened.store.read().result(), VALUES)


def test_the_axes_of_zarr_are_obeyed(tmp_path):
    three = zarr.create_array(tmp_path / "3.zarr", shape=VALUES.T.shape, dtype="u1", dimension_names=["x", "y", "z"])
    three[...] = VALUES.T
    xarray = zarr.create_array(tmp_path / "2.zarr", shape=VALUES.T.shape, dtype="u1", zarr_format=2)
    xarray[...] = VALUES.T
    xarray.attrs["_ARRAY_DIMENSIONS"] = ["x", "y", "z"]
    channels = zarr.create_array(tmp_path / "c.zarr", shape=(2, *VALUES.shape), dtype="u1",
                                 attributes={"axis_names": list("czyx")})
    channels[...] = np.stack([VALUES, 255 - VALUES])
    for name in ("3", "2"):
        np.testing.assert_array_equal(read_volume(f"{tmp_path}/{name}.zarr").store.read().result(), VALUES)
    np.testing.assert_array_equal(read_volume(f"{tmp_path}/c.zarr", channel=1).store.read().result(), 255 - VALUES)
    with pytest.raises(InputError, match="2 channels"):
        read_volume(f"{tmp_path}/c.zarr")
