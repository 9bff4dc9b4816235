"""Volumes that are chunked arrays, which TensorStore reads: Zarr, N5 and Neuroglancer precomputed, on a disk or on a server."""

import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import tensorstore as ts

from yseg.config import InputError
from yseg.volumes.axes import Axis, arranged, kind_of
from yseg.volumes.chunks import check_uncompressed, checked, missing_chunks, missing_note
from yseg.volumes.header import MARK, marked_nm
from yseg.volumes.multiscales import Level, levels, nearest
from yseg.volumes.opened import OpenedVolume, Request, check_slashes, first_line
from yseg.volumes.palettes import lossy_note
from yseg.volumes.voxel_size import nm_of, with_sizes

CLOUDS = ("s3", "gs")
SERVERS = (*CLOUDS, "http", "https")
CHUNKED = (".zarr", ".n5", ".precomputed")
_METADATA = ("zarr.json", ".zarray", ".zgroup")
_OTHER_METADATA = {"attributes.json": ("dimensions", "n5"), "info": ("scales",)}  # file: keys of which it must have one
_PARENTS = 4  # folders above an array in which the metadata of its image may be
_NAMED = 8  # arrays of a group that a message names
ANSWER_SECONDS = 60.0  # a store in the cloud that has not answered by then is not there
_LOCAL_READS, _REMOTE_READS = 8, 32  # chunks that are read at once
# Where the credentials for S3 may be; where none of these is, access is anonymous.
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE",
                "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
_CREDENTIAL_FILES = ("~/.aws/credentials", "~/.aws/config")


def is_chunked(spec: str) -> bool:
    """Whether a spec names an array that TensorStore reads, or a group: by the name of one of its folders, or by its files."""
    parts = urlsplit(spec)
    if "://" in spec:
        return parts.scheme in SERVERS and any(part.endswith(CHUNKED) for part in PurePosixPath(parts.path).parts)
    return any(part.endswith(CHUNKED) for part in Path(spec).parts) or has_metadata(spec)


def has_metadata(path: str) -> bool:
    """Whether a folder holds a Zarr or N5 array or group, or a precomputed volume."""
    if any(os.path.isfile(os.path.join(path, file)) for file in _METADATA):
        return True
    for name, keys in _OTHER_METADATA.items():
        try:
            found = json.loads(Path(path, name).read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and any(key in found for key in keys):
            return True
    return False


def open_chunked(request: Request) -> OpenedVolume:
    """A Zarr, N5 or precomputed array, or that of a group that holds one; of several resolutions the one that is asked for.

    Args:
      request: its spec is a path, s3://BUCKET/PATH, gs://BUCKET/PATH or http(s)://HOST/PATH. Credentials for the first come from
        where `_CREDENTIALS` say; AWS_ENDPOINT_URL names another service than Amazon's.

    Raises:
      InputError: there is no such array, no access to it, or it is no volume.
    """
    if "://" not in request.spec and not os.path.isdir(request.spec):
        raise InputError(f"{request.name}: a file; a Zarr, N5 or precomputed array is a folder")
    place = _Place.of(request.spec, request.name)
    node = _node(place, "")
    if node is None:
        found = _arrays_below(place, None)
        if not found:
            anonymous = ", read without credentials" if place.is_anonymous else ""
            raise InputError(f"{request.name}: not a Zarr, N5 or precomputed array{anonymous}")
        return _open_only(found, request)
    if node.driver == "neuroglancer_precomputed":
        return _open_precomputed(place, node, request)
    if node.is_array:
        return _open_array(place, "", node, _axes_from_above(place), request)
    image = levels(node.attributes, request.name)
    if not image:
        return _open_only(_arrays_below(place, node), request)
    level = image[nearest([level.pixel_nm for level in image], request.near_nm)]
    array = _node(place, level.path)
    if array is None or not array.is_array:
        raise InputError(f"{request.name}: has no array {level.path}, which its metadata (multiscales) name")
    return _open_array(place, level.path, array, level.axes, request, is_whole=MARK in node.attributes)


def _open_only(found: Sequence[str], request: Request) -> OpenedVolume:
    """The array of a group, if it holds one alone."""
    spec = request.spec.rstrip("/")
    if len(found) != 1:
        names = ", ".join([*found[:_NAMED], *(["..."] if len(found) > _NAMED else [])])
        which = f"one of {names}" if names else f"for example {spec}/0"
        raise InputError(f"{request.name}: a group; name the array in it, {which}")
    return open_chunked(request._replace(spec=f"{spec}/{found[0]}"))


def _open_array(place: "_Place", path: str, node: "_Node", axes: Sequence[Axis] | None, request: Request, *,
                is_whole: bool = False) -> OpenedVolume:
    """An array of Zarr or N5.

    axes: as an image's metadata name them, None = they do not; is_whole: whether who wrote it leaves out no chunk, as yseg does.
    """
    store = place.open({"driver": node.driver}, path)
    x_first = node.driver == "n5"
    if axes is None:
        axes = with_sizes(_own_axes(store), node.attributes, x_first=x_first)
        if x_first and not any(kind_of(axis.name) for axis in axes):
            store, axes = store.T, list(axes)[::-1]
    elif x_first:
        axes = _stored_order(axes, _own_axes(store))
    missing = 0
    if place.folder is not None and (is_whole or not request.labels):  # of labels many leave out what is background
        missing = missing_chunks(place.folder / path, store)
    return _finished(store, axes, place, request).noting(*missing_note(request.name, missing))


def _stored_order(axes: Sequence[Axis], own: Sequence[Axis]) -> list[Axis]:
    """The axes of an image in N5 in the order of its arrays: as these name them, or else with x first (CellMap lists z first)."""
    if any(kind_of(axis.name) for axis in own):
        by_kind = {kind_of(axis.name): axis for axis in axes}
        return [by_kind.get(kind_of(axis.name), Axis())._replace(name=axis.name) for axis in own]
    kinds = [kind_of(axis.name) for axis in axes]
    return list(axes)[::-1] if "x" in kinds[-1:] else list(axes)


def _finished(store: ts.TensorStore, axes: Sequence[Axis], place: "_Place", request: Request) -> OpenedVolume:
    opened = arranged(store, axes, request)
    threads = _REMOTE_READS if place.folder is None else _LOCAL_READS
    return opened._replace(store=checked(opened.store, request.name, threads))


def _own_axes(store: ts.TensorStore) -> list[Axis]:
    """The axes of an array as its own metadata name them."""
    units = store.dimension_units or (None,) * store.rank
    return [Axis(label, None if unit is None else nm_of(unit.multiplier, unit.base_unit))
            for label, unit in zip(store.domain.labels, units, strict=True)]


def _axes_from_above(place: "_Place") -> Sequence[Axis] | None:
    """The axes of a Zarr array as the metadata of a group above it name them, of whose image it is a resolution."""
    path, above = "", place
    for _ in range(_PARENTS):
        step = above.parent()
        if step is None:
            return None
        above, path = step[0], f"{step[1]}/{path}".strip("/")
        try:
            node = _node(above, "")
        except InputError:
            return None
        level: Level | None = next((level for level in levels(node.attributes, above.name) if level.path == path),
                                   None) if node else None
        if level:
            return level.axes
    return None


def _open_precomputed(place: "_Place", node: "_Node", request: Request) -> OpenedVolume:
    try:
        sizes = [max(scale["resolution"][:2]) for scale in node.attributes["scales"]]
        order = np.argsort(sizes, kind="stable")
        index = int(order[nearest([sizes[number] for number in order], request.near_nm)])
        scale = node.attributes["scales"][index]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{request.name}: its info cannot be understood ({type(error).__name__}: {error})") from error
    store = place.open({"driver": node.driver, "scale_index": index}, "")
    x, y, z = map(float, scale["resolution"])
    marked = marked_nm(node.attributes.get(MARK))
    unknown = marked is not None and marked[0] is None and marked[1] == z  # we write cubes where the section distance is unknown
    starts = scale.get("voxel_offset") or [None] * 3
    axes = [*map(Axis, "xyz", (x, y, None if unknown else z), starts), Axis("c")]
    missing = 0
    if place.folder is not None:
        check_uncompressed(place.folder / scale["key"], request.name)
    if place.folder is not None and (marked or not request.labels) and not scale.get("sharding"):
        missing = missing_chunks(place.folder / scale["key"], store[..., 0])
    is_lossy = request.labels and scale.get("encoding") == "jpeg"
    return _finished(store, axes, place, request).noting(*missing_note(request.name, missing),
                                                         *([lossy_note(request.name)] if is_lossy else []))


# --- What is where ---


class _Node(NamedTuple):
    """What a folder of a store is: an array or a group."""

    driver: str  # of TensorStore
    is_array: bool
    attributes: Mapping[str, Any]
    members: Sequence[str] = ()  # arrays below a group, where its metadata list them


class _Place(NamedTuple):
    """A folder on a disk or on a server."""

    kvstore: dict[str, Any]  # of TensorStore, with a path that ends in /
    context: ts.Context
    is_anonymous: bool
    folder: Path | None  # on a disk
    name: str  # what messages call it

    @classmethod
    def of(cls, spec: str, name: str) -> "_Place":
        if "://" in spec:
            kvstore, more = in_the_cloud(spec)
        else:
            check_slashes(os.path.abspath(spec), name)
            kvstore, more = {"driver": "file", "path": os.path.join(os.path.abspath(spec), "")}, {}
        context = ts.Context({"cache_pool": {"total_bytes_limit": 0}, **more})
        return cls(kvstore, context, more.get("aws_credentials") == {"type": "anonymous"},
                   None if "://" in spec else Path(spec).absolute(), name)

    def below(self, path: str) -> dict[str, Any]:
        """The key-value store of a folder in this one."""
        return {**self.kvstore, "path": f"{self.kvstore['path']}{path}/" if path else self.kvstore["path"]}

    def parent(self) -> tuple["_Place", str] | None:
        """(the folder above, the name of this one in it); None at the top."""
        above, _, last = self.kvstore["path"].rstrip("/").rpartition("/")
        if not above or not last:
            return None
        return self._replace(kvstore={**self.kvstore, "path": f"{above}/"}, folder=self.folder and self.folder.parent), last

    def json(self, path: str) -> dict[str, Any] | None:
        """What a JSON file holds; None if it is not there."""
        folder, _, file = path.rpartition("/")
        try:
            read = ts.KvStore.open(self.below(folder), context=self.context).result().read(file).result(timeout=ANSWER_SECONDS)
        except TimeoutError as error:
            raise InputError(f"{self.name}: no answer within {ANSWER_SECONDS:.0f} s") from error
        except Exception as error:
            if self.kvstore["driver"] == "http" and "403" in str(error):
                return None  # what such a server says of a file that is not there, if nobody may list its files
            anonymous = ", read without credentials" if self.is_anonymous else ""
            raise InputError(f"{self.name}: {path} cannot be read{anonymous} ({first_line(error)})") from error
        if read.state != "value":
            return None
        try:
            found = json.loads(read.value)
        except ValueError as error:
            raise InputError(f"{self.name}: {path} is damaged ({first_line(error)})") from error
        if not isinstance(found, dict):
            raise InputError(f"{self.name}: {path} is damaged (it is no JSON object)")
        return found

    def open(self, spec: dict[str, Any], path: str) -> ts.TensorStore:
        """Open an array in this folder."""
        try:
            return ts.open({**spec, "kvstore": self.below(path)}, read=True, context=self.context,
                           recheck_cached_data="open").result(timeout=ANSWER_SECONDS)
        except TimeoutError as error:
            raise InputError(f"{self.name}: no answer within {ANSWER_SECONDS:.0f} s") from error
        except Exception as error:
            raise InputError(f"{self.name}: cannot be opened ({first_line(error)})") from error


def _node(place: _Place, path: str) -> _Node | None:
    """What is in a folder; None if it has no metadata of a format that is known."""
    inside = functools.partial(os.path.join, path) if path else str
    found = place.json(inside("zarr.json"))
    if found is not None:
        attributes = found.get("attributes") or {}
        inner = (found.get("consolidated_metadata") or {}).get("metadata") or {}
        return _Node("zarr3", found.get("node_type") == "array", attributes,
                     [name for name, member in inner.items() if member.get("node_type") == "array"])
    array, group = place.json(inside(".zarray")), None
    if array is None:
        group = place.json(inside(".zgroup"))
    if array is not None or group is not None:
        listed = (place.json(inside(".zmetadata")) or {}).get("metadata") or {} if array is None else {}
        return _Node("zarr", array is not None, place.json(inside(".zattrs")) or {},
                     [name.removesuffix("/.zarray") for name in listed if name.endswith("/.zarray")])
    found = place.json(inside("attributes.json"))
    if found is not None:
        return _Node("n5", "dimensions" in found and "blockSize" in found, found)
    found = place.json(inside("info"))
    return _Node("neuroglancer_precomputed", True, found) if found is not None else None


def _arrays_below(place: _Place, node: _Node | None) -> list[str]:
    """The arrays in a group, and the images of several resolutions, as paths."""
    if place.folder is None:
        return sorted(node.members) if node else []
    found: list[str] = []

    def walk(path):
        try:
            entries = sorted(os.scandir(place.folder / path), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"{place.name}: {path or 'it'} cannot be read ({error.strerror})") from error
        for entry in entries:
            if not entry.is_dir() or len(found) > _NAMED:
                continue
            inner = f"{path}/{entry.name}".strip("/")
            member = _node(place, inner)
            if member and (member.is_array or levels(member.attributes, place.name)):
                found.append(inner)
            else:
                walk(inner)

    walk("")
    return found


def in_the_cloud(spec: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(key-value store, context) of TensorStore for an s3://, gs:// or http(s):// URL."""
    parts = urlsplit(spec)
    if parts.scheme in ("http", "https"):
        path = unquote(parts.path).rstrip("/")  # TensorStore quotes it
        return {"driver": "http", "base_url": f"{parts.scheme}://{parts.netloc}", "path": f"{path}/"}, {
            "http_request_retries": {"max_retries": 3, "initial_delay": "200ms", "max_delay": "2s"}}
    place = {"bucket": parts.netloc, "path": f"{parts.path.strip('/')}/".lstrip("/")}  # of the bucket itself: none
    if parts.scheme == "gs":
        return {"driver": "gcs", **place}, {}
    if os.environ.get("AWS_ENDPOINT_URL"):
        place |= {"endpoint": os.environ["AWS_ENDPOINT_URL"], "aws_region": os.environ.get("AWS_REGION", "us-east-1")}
    given = any(os.environ.get(variable) for variable in _CREDENTIALS) or any(
        os.path.exists(os.path.expanduser(file)) for file in _CREDENTIAL_FILES)
    return {"driver": "s3", **place}, {"aws_credentials": {"type": "default" if given else "anonymous"}}
