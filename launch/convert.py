"""Write a volume in another format, with the same values.

    python -m launch.convert --image=b.tif --output=b.zarr --pixel_size_nm=4.6 --section_nm=50
    python -m launch.convert --image=b_labels.tif --labels --output=b_labels.zarr --pixel_size_nm=4.6 --section_nm=50

Folders (.zarr, .n5, .precomputed) also get coarser levels, for viewers. The output's path is printed.
"""

from absl import flags

import yseg
from launch import program


def define(values):
    """Add the program's own flags."""
    program.define_required("image", "the volume: a path or URL", values)
    program.define_required("output", program.OUTPUT, values)
    program.define_format(values)
    program.define_sizes(values)
    flags.DEFINE_boolean("labels", False, "the values are labels: coarser levels have the most frequent one and not the mean",
                         flag_values=values)
    flags.DEFINE_boolean("overwrite", False, "replace the output if it exists and yseg wrote it", flag_values=values)


def main(values):
    """Convert."""
    from yseg.report import progress  # needs Matplotlib, for which --help and a bad flag need not wait

    with progress(100, "Converting", unit="%") as bar:
        output = yseg.convert(values.image, values.output, pixel_size_nm=values.pixel_size_nm, section_nm=values.section_nm,
                              metadata=values.metadata, channel=values.channel, labels=values.labels, format=values.format,
                              overwrite=values.overwrite, on_share=lambda share: bar.update(int(100 * share)))
    print(output)


PROGRAM = program.Program(__doc__, define, main)

if __name__ == "__main__":
    program.run(PROGRAM)
