"""Look at volumes in a browser: grey levels, truth, prediction, probability and instances, with Neuroglancer.

    python -m launch.view --workdir=runs/b
    python -m launch.view --image=b.tif --pixel_size_nm=4.6 --segmentation=b_segmented.zarr --probability=b_probability.zarr

With --workdir the image is the run's target, the truth its labels, if it has any, and the prediction what the last launch.segment
of it has written, unless others are given. The volumes, of any format that yseg reads, are served to this machine alone until
Ctrl-C; the URL is printed. It needs the extra "view", and no network. On another machine: --noopen --port=8000, and from yours
ssh -L 8000:127.0.0.1:8000 HOST.
"""

import os
import sys
import webbrowser

from absl import flags

from launch import program
from yseg.config import Domain, InputError

_OF_IMAGE = ("pixel_size_nm", "section_nm", "metadata", "channel")


def define(values):
    """Add the program's own flags."""
    program.define_path("workdir", "the folder of a run of launch.train, whose target is shown", values)
    program.define_path("image", "a volume, instead of --workdir: a path or URL", values)
    program.define_path("segmentation", "a volume of classes that lies on it", values)
    program.define_path("probability", "a volume of probabilities that lies on it", values)
    program.define_path("labels", "a volume of true labels that lies on it, but 0 in one colour; default: the run's", values)
    program.define_path("instances", "a volume of objects, each with a number of its own, that lies on it", values)
    program.define_sizes(values)
    flags.DEFINE_integer("port", 0, "of this machine, at which the volumes are served; 0 = any that is free", lower_bound=0,
                         upper_bound=65535, flag_values=values)
    flags.DEFINE_boolean("open", True, "open the browser", flag_values=values)
    program.define_moved(values)


def main(values):
    """Serve until interrupted."""
    from yseg.view.client import client_files
    from yseg.view.server import Server
    from yseg.view.state import state_of, url_of

    _check(values)
    files = client_files()
    with Server(_shown(values), files, values.port) as server:
        url = url_of(state_of(server.shown, server.volumes), server.client)
        print(url, flush=True)
        if values.open and not webbrowser.open(url):
            print("no browser could be opened; open the line above in one", file=sys.stderr, flush=True)
        server.serve_forever()


def _shown(values):
    from yseg.view.shown import OVERLAYS, of_image, of_run

    overlays = {key: values[key].value for key in OVERLAYS}
    if values.workdir:
        return of_run(values.workdir, overlays, program.moved(values))
    given = {name: values[name].value for name in _OF_IMAGE if values[name].value is not None}
    return of_image(Domain(image=values.image, **given), overlays)


def _check(values):
    """InputError for flags that do not go together, or a browser that cannot be."""
    if bool(values.workdir) == bool(values.image):
        raise InputError(f"--image={values.image}: must not be given with --workdir={values.workdir}" if values.image else
                         "--workdir is missing: must be the folder of a run of launch.train; or give --image, a volume")
    for name in _OF_IMAGE if values.workdir else ():
        if values[name].value is not None:
            raise InputError(f"--{name}={values[name].value}: must come with --image")
    if values.image and program.moved(values):
        raise InputError(f"--{next(iter(program.moved(values))).replace('.', '_')}: must come with --workdir")
    if values.open and sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise InputError("--open: there is no display here (DISPLAY is not set); give --noopen, and open the URL that is printed")


PROGRAM = program.Program(__doc__, define, main)

if __name__ == "__main__":
    program.run(PROGRAM)
