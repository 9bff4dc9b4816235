"""The table beside a volume of instances: NAME.zarr.csv beside NAME.zarr, on a disk or in a bucket."""

import os
from collections.abc import Mapping

from yseg.config import InputError
from yseg.files import write_whole
from yseg.volumes.opened import first_line
from yseg.volumes.ownership import check_apart
from yseg.volumes.places import dataset_of, file_of, is_bucket
from yseg.volumes.prefix import Prefix


def table_of(output: str) -> str:
    """The spec of the table of an output: of b.zarr b.zarr.csv, of b.h5:a/b b.h5.a.b.csv."""
    file, dataset = dataset_of(output.rstrip("/"))
    return ".".join([file, *filter(None, dataset.split("/")), "csv"])


def check_table(output: str, overwrite: bool, *, header: str, inputs: Mapping[str, str]) -> None:
    """InputError unless the table of an output can be written.

    Args:
      output: a spec that `yseg.volumes.create.check_output` has found to be right.
      overwrite: whether a table that was written here may be replaced. Nothing else ever is.
      header: the first line of such a table.
      inputs: what is read, see `check_output`.
    """
    spec = table_of(output)
    name = f"--output={output}: its table {spec}"
    check_apart(spec, inputs, name)
    if is_bucket(spec):
        folder, _, file = spec.rpartition("/")
        there = Prefix.of(folder).read(file)
        if not there:
            return
    elif not os.path.lexists(file_of(spec)):
        return
    else:
        there = b""
        if os.path.isfile(file_of(spec)) and not os.path.islink(file_of(spec)):
            with open(file_of(spec), "rb") as opened:
                there = opened.readline(len(header) + 1)
    if there.split(b"\n", 1)[0].decode(errors="replace") != header:
        raise InputError(f"{name}: exists and is not what yseg wrote there; it will not be replaced")
    if not overwrite:
        raise InputError(f"{name}: exists already; give --overwrite to replace it")


def write_table(output: str, text: str) -> None:
    """Write the table of an output, whole or not at all; InputError if a bucket refuses it."""
    spec = table_of(output)
    if not is_bucket(spec):
        write_whole(file_of(spec), text)
        return
    folder, _, file = spec.rpartition("/")
    try:
        Prefix.of(folder).write(file, text.encode())
    except (ValueError, OSError) as error:
        raise InputError(f"--output={output}: its table {spec}: cannot be written ({first_line(error)})") from error
