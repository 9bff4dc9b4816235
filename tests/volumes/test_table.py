"""The table beside a volume: where it lies, and what it may replace."""

import pytest

from yseg.config import InputError
from yseg.volumes.table import check_table, table_of, write_table


@pytest.mark.parametrize(("output", "table"), [
    ("a.zarr", "a.zarr.csv"), ("b/a.n5/", "b/a.n5.csv"), ("a.OME.tif", "a.OME.tif.csv"), ("a.h5:raw/x", "a.h5.raw.x.csv"),
    ("s3://em-data/b/a.zarr", "s3://em-data/b/a.zarr.csv")])
def test_it_has_the_name_of_the_volume(output, table):
    assert table_of(output) == table


def test_only_a_table_that_was_written_here_is_replaced_and_only_if_asked_to(tmp_path):
    output, table = str(tmp_path / "a.zarr"), tmp_path / "a.zarr.csv"
    check_table(output, False, header="id,voxels", inputs={})
    write_table(output, "id,voxels\n1,5\n")
    assert table.read_text() == "id,voxels\n1,5\n"
    check_table(output, True, header="id,voxels", inputs={})
    with pytest.raises(InputError, match=r"^--output=.*a.zarr: its table .*a.zarr.csv: exists already; give --overwrite"):
        check_table(output, False, header="id,voxels", inputs={})
    for text in ("", "id\n", "id,voxels,more\n", "\udcff"):
        table.write_text(text, errors="surrogateescape")
        with pytest.raises(InputError, match="exists and is not what yseg wrote there"):
            check_table(output, True, header="id,voxels", inputs={})
    table.unlink()
    table.mkdir()
    with pytest.raises(InputError, match="exists and is not what yseg wrote there"):
        check_table(output, True, header="id,voxels", inputs={})


def test_it_is_none_of_what_is_read(tmp_path):
    with pytest.raises(InputError, match=r"its table .*a.zarr.csv: lies in --image=.*, which is read"):
        check_table(str(tmp_path / "a.zarr"), True, header="id", inputs={"--image": str(tmp_path)})


def test_in_a_bucket(s3):
    for output in ("s3://em-data/a.zarr", "s3://em-data/b/a.zarr"):
        check_table(output, False, header="id", inputs={})
        write_table(output, "id\n1\n")
        check_table(output, True, header="id", inputs={})
        with pytest.raises(InputError, match="give --overwrite"):
            check_table(output, False, header="id", inputs={})
    assert [found["Key"] for found in s3.list_objects_v2(Bucket="em-data")["Contents"]] == ["a.zarr.csv", "b/a.zarr.csv"]
