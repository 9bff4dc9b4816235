"""Write the network of a run as one folder that can be given away and applied without the run and its data.

    python -m launch.export --workdir=runs/ynet --output=models/ynet
    python -m launch.segment --model=models/ynet --image=c.tif --pixel_size_nm=4 --output=c_segmented.zarr

The folder holds weights.npz, the segmentation network alone, and model.json, which says what it is, how images are prepared for
it and where it comes from. Its path is printed.

    python -m launch.export --workdir=runs/ynet --output=models/ynet.zip --format=bioimageio

writes a package of the BioImage Model Zoo instead, for programs other than yseg; a folder unless its name ends with .zip. It has
weights for ONNX and, if PyTorch is installed here, for that too. Its README.md says what such a program has to do itself. It
shows a tile of the target, if that is found.
"""

from absl import flags

import yseg
from launch import program


def define(values):
    """Add the program's own flags."""
    program.define_required("workdir", "the folder of a run of launch.train", values)
    program.define_required("output", "the folder that is created; of bioimageio also a file, NAME.zip", values)
    flags.DEFINE_enum("format", "yseg", ["yseg", "bioimageio"], "yseg = what --model of launch.segment reads; bioimageio = a"
                      " package of the BioImage Model Zoo, for other programs", flag_values=values)
    flags.DEFINE_boolean("overwrite", False, "replace the output if it is an exported model", flag_values=values)
    program.define_threshold(values)
    program.define_statistics(values)
    program.define_plausible_objects(values)
    program.define_adapted(values)
    program.define_moved(values)


def main(values):
    """Export."""
    print(yseg.export(values.workdir, values.output, overwrite=values.overwrite, threshold=values.threshold,
                      batch_statistics=values.batch_statistics, plausible_objects=values.plausible_objects,
                      adapted=values.adapted, moved=program.moved(values), format=values.format))


PROGRAM = program.Program(__doc__, define, main)

if __name__ == "__main__":
    program.run(PROGRAM)
