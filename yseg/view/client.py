"""The Neuroglancer client, as it lies in the Python package of that name: files that a browser runs, without a network."""

import importlib.util
from pathlib import Path

from yseg.config import InputError

INDEX = "index.html"


def client_files() -> dict[str, Path]:
    """The client's files by their names, without the package being imported; InputError if it is not installed."""
    found = importlib.util.find_spec("neuroglancer")
    for place in (found.submodule_search_locations or ()) if found else ():
        files = {path.name: path for path in Path(place, "static", "client").glob("*") if path.is_file()}
        if INDEX in files:
            return {name: path for name, path in files.items() if path.suffix != ".map"}
    raise InputError('the view needs Neuroglancer: pip install ".[view]" in the folder of yseg')
