"""Segment a volume of any size with a trained network.

    python -m launch.segment --workdir=runs/ynet --image=b.tif --pixel_size_nm=4.6 --output=b_segmented.zarr
    python -m launch.segment --model=models/ynet --image=b.tif --pixel_size_nm=4.6 --output=b_segmented.zarr

The result is a Zarr volume (uint8 classes) on the voxels of the image, or of its --region; its path is printed.
"""

from absl import flags

import yseg
from launch import program


def define(values):
    """Add the program's own flags."""
    program.define_network(values)
    program.define_required("image", "the volume: a path or URL", values)
    program.define_required("output", "the segmented volume that is created, NAME.zarr", values)
    program.define_reading(values)
    flags.DEFINE_string("region", None, "a part of the image, in its voxels: z0:z1,y0:y1,x0:x1", flag_values=values)
    flags.DEFINE_boolean("overwrite", False, "replace the output if it exists", flag_values=values)
    program.define_threshold(values)
    program.define_augmentation(values)
    program.define_plausible_objects(values)
    program.define_adapted(values)
    program.define_statistics(values)


def main(values):
    """Segment."""
    print(yseg.segment(
        program.network(values), values.image, values.output, pixel_size_nm=values.pixel_size_nm, region=values.region,
        overwrite=values.overwrite, threshold=values.threshold, batch_statistics=values.batch_statistics,
        test_time_augmentation=values.test_time_augmentation, section_nm=values.section_nm, metadata=values.metadata,
        channel=values.channel, plausible_objects=values.plausible_objects, adapted=values.adapted))


PROGRAM = program.Program(__doc__, define, main)

if __name__ == "__main__":
    program.run(PROGRAM)
