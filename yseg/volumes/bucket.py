"""Outputs in buckets, s3:// and gs://: what is whole on this machine, or elsewhere in the bucket, is copied there, metadata last.

A bucket has no renaming. While an output is copied, an object UNFINISHED lies beside it; there are no metadata yet, without which
nothing is a volume. A killed process leaves that, and the next writing to the same place removes it.
"""

import collections
import contextlib
import os
from collections.abc import Iterator

import tensorstore as ts

from yseg.config import InputError
from yseg.volumes.opened import first_line
from yseg.volumes.prefix import Prefix
from yseg.volumes.stores import ANSWER_SECONDS, in_the_cloud

UNFINISHED = ".yseg-unfinished"
_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", "attributes.json", "info")
_AT_ONCE = 8  # files that are held in memory while they are sent


def names(spec: str, name: str) -> set[str]:
    """The names of all that lies directly under a URL.

    Args:
      spec: s3://BUCKET/PATH or gs://BUCKET/PATH.
      name: what messages call it.

    Raises:
      InputError: there is no such bucket, no access to it, or no answer.
    """
    with _one_line(name):
        return {key.decode().split("/", 1)[0] for key in _store(spec).list().result(timeout=ANSWER_SECONDS)}


def read(spec: str, key: str, name: str) -> bytes:
    """The content of an object under a URL; empty if there is none. See `names`."""
    with _one_line(name):
        return _store(spec).read(key).result(timeout=ANSWER_SECONDS).value


def announce(spec: str, name: str) -> None:
    """Say that an output is going to be copied to a URL, which shows whether it can be. See `names`."""
    with _one_line(name):
        _store(spec).write(UNFINISHED, b"yseg is writing a volume here\n").result(timeout=ANSWER_SECONDS)


def upload(source: Prefix, spec: str, name: str) -> None:
    """Replace what lies under a URL by copies of all files of a Prefix, see `names`. It is whole as soon as it has metadata.

    Raises:
      InputError: see `names`.
    """
    store = _store(spec)
    with _one_line(name):
        files = source.store()
        keys = sorted(map(bytes.decode, files.list().result()))
        # Metadata come after all voxels, and those of the whole after those of its levels.
        keys.sort(key=lambda key: (_is_metadata(key), -key.count("/") if _is_metadata(key) else 0))
        for key in sorted((key for key in map(bytes.decode, store.list().result()) if _is_metadata(key)),
                          key=lambda key: key.count("/")):
            store.write(key, None).result()  # from here on nothing is taken for whole
        for rest in (ts.KvStore.KeyRange("", UNFINISHED), ts.KvStore.KeyRange(f"{UNFINISHED}\0", "")):
            store.delete_range(rest).result()
        writes: collections.deque[ts.Future] = collections.deque()
        for key in keys:
            _wait(writes, 0 if _is_metadata(key) else _AT_ONCE)
            found = files.read(key).result()
            if found.state != "value":
                raise InputError(f"{name}: cannot be copied, as {key} is gone from where it was assembled")
            writes.append(store.write(key, found.value))
        _wait(writes, 0)
        store.write(UNFINISHED, None).result()


def _is_metadata(key):
    return os.path.basename(key) in _METADATA


def _wait(writes, left):
    while len(writes) > left:
        writes.popleft().result()


def _store(spec: str) -> ts.KvStore:
    place, context = in_the_cloud(spec)
    return ts.KvStore.open(place, context=ts.Context(context)).result(timeout=ANSWER_SECONDS)


@contextlib.contextmanager
def _one_line(name: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise InputError(f"{name}: no answer within {ANSWER_SECONDS:.0f} s") from error
    except (ValueError, OSError) as error:
        said = first_line(error).split(" [")[0]  # without what the service sent
        raise InputError(f"{name}: cannot be reached ({said})") from error
