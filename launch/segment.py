"""Segment a volume of any size with a trained network.

    python -m launch.segment --workdir=runs/ynet --image=b.tif --pixel_size_nm=4.6 --output=b_segmented.zarr
    python -m launch.segment --model=models/ynet --image=b.tif --pixel_size_nm=4.6 --output=b_segmented.zarr

A volume is segmented in blocks. The same command goes on after an interruption. These share the blocks out, the first to workers
of Dask (on this machine, or --scheduler=slurm under srun, tcp://HOST:8786, or the scheduler's FILE.json), the second among jobs,
after which the command without --part writes the output:

    python -m launch.segment --workdir=runs/ynet --image=b.zarr --output=b_segmented.zarr --scheduler=local:4
    python -m launch.segment --workdir=runs/ynet --image=b.zarr --output=b_segmented.zarr --part=0/100

The result lies on the voxels of the image, or of its --region: classes (uint8), the probability of foreground (float32), or both.
Its path is printed. Of both, the probability gets a name of its own: b_segmented_probability.zarr beside b_segmented.zarr.

    python -m launch.segment --workdir=runs/ynet --image=b.zarr --output=b_instances.zarr --what=instances

gives 3-D objects: ids (uint32, 0 = none), and b_instances.zarr.csv with their volumes, places, surfaces, mean probabilities. They
are connected components, cut where they are narrow, and the same however the volume is cut into blocks.
"""

from absl import flags

import yseg
from launch import program
from yseg.volumes.header import CLASSES, INSTANCES, WHAT


def define(values):
    """Add the program's own flags."""
    program.define_network(values)
    program.define_required("image", "the volume: a path or URL", values)
    program.define_required("output", program.OUTPUT, values)
    program.define_format(values)
    flags.DEFINE_enum("what", CLASSES, WHAT, "what is written; with both, the probability goes into a second volume beside the"
                      " first, NAME_probability.zarr; with instances, a table beside it, NAME.zarr.csv", flag_values=values)
    program.define_reading(values)
    flags.DEFINE_string("region", None, "a part of the image, in its voxels: z0:z1,y0:y1,x0:x1", flag_values=values)
    flags.DEFINE_boolean("overwrite", False, "replace the output if it exists and yseg wrote it", flag_values=values)
    program.define_scheduler(values)
    flags.DEFINE_string("part", "", "i/n, with i from 0 to n - 1: only this share of the blocks, and no output yet; the command"
                        " without it does what is missing and writes the output", flag_values=values)
    flags.DEFINE_string("block", "", "z,y,x: the sections, rows and columns of a block, on which the memory depends; empty = they"
                        " are chosen", flag_values=values)
    flags.DEFINE_float("least_nm", None, "with --what=instances: diameter of a ball below whose volume an object is dropped;"
                       " default: 100", flag_values=values)
    flags.DEFINE_boolean("separate", True, "with --what=instances: cut components where they are less than half as thick as on"
                         " either side, as mitochondria that touch are", flag_values=values)
    program.define_threshold(values)
    program.define_augmentation(values)
    program.define_plausible_objects(values)
    program.define_adapted(values)
    program.define_statistics(values)


def main(values):
    """Segment."""
    # These need TensorStore and JAX, for which --help and a bad flag need not wait.
    from yseg.inference.engine import serves
    from yseg.volumes.create import outputs_of
    from yseg.volumes.table import table_of

    if serves(values.scheduler):
        return
    yseg.segment(
        program.network(values), values.image, values.output, pixel_size_nm=values.pixel_size_nm, region=values.region,
        overwrite=values.overwrite, threshold=values.threshold, batch_statistics=values.batch_statistics,
        test_time_augmentation=values.test_time_augmentation, plausible_objects=values.plausible_objects,
        adapted=values.adapted, moved=program.moved(values), what=values.what, format=values.format,
        scheduler=values.scheduler, part=values.part, block=values.block,
        least_nm=values.least_nm, separate=values.separate, **program.reading(values))
    if values.part:
        print(f"part {values.part} is done; the command without --part writes the output")
        return
    print(*outputs_of(values.output, values.what).values(), *([table_of(values.output)] if values.what == INSTANCES else []),
          sep="\n")


PROGRAM = program.Program(__doc__, define, main)

if __name__ == "__main__":
    program.run(PROGRAM)
