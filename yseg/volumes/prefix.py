"""Where the files of one thing lie: a folder on a disk, or a prefix of a bucket."""

import os
from typing import Any, NamedTuple

import tensorstore as ts

from yseg.volumes.places import is_bucket
from yseg.volumes.stores import in_the_cloud


class Prefix(NamedTuple):
    """A place for files, which need not be there.

    kvstore: spec of TensorStore, with a path that ends in /; context: for it.
    """

    kvstore: dict[str, Any]
    context: ts.Context

    @classmethod
    def of(cls, place: str | os.PathLike[str]) -> "Prefix":
        """That of a path, or of an s3:// or gs:// URL."""
        spec, context = in_the_cloud(str(place)) if is_bucket(str(place)) else ({"driver": "file", "path": f"{place}/"}, {})
        return cls(spec, ts.Context(context))

    def below(self, name: str) -> "Prefix":
        """A folder in this one."""
        return self._replace(kvstore={**self.kvstore, "path": f"{self.kvstore['path']}{name}/"})

    def store(self) -> ts.KvStore:
        """Its files, by their names."""
        return ts.KvStore.open(self.kvstore, context=self.context).result()

    def array(self, driver: str, **spec: Any) -> ts.TensorStore:
        """Open, or with create=True create, an array of a driver of TensorStore, by more of its spec and options."""
        create = spec.pop("create", False)
        return ts.open({"driver": driver, "kvstore": self.kvstore, **spec}, open=True, create=create,
                       context=self.context).result()

    def read(self, name: str) -> bytes:
        """What a file holds; nothing if it is not there."""
        return self.store().read(name).result().value

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        self.store().write(name, content).result()

    def delete(self, first: str = "", stop: str = "") -> None:
        """Delete all files, or those of which the names lie in [first, stop)."""
        self.store().delete_range(ts.KvStore.KeyRange(first, stop)).result()
