"""Write the report of a run: one HTML file with everything inside, to look at, print and pass on.

    python -m launch.report --workdir=runs/adapted
    python -m launch.report --workdir=runs/three --output=three.html

It says what was trained on what, with curves, pictures, scores, versions and what to cite; sections of the last launch.evaluate
and launch.segment are seen one by one. A run need not be finished. Of a folder of runs, such as of launch.train --seeds, it
compares them. Nothing is read from the network, and no volume. Every training, launch.evaluate and launch.segment writes it, too.
The last line is its path.
"""

from absl import flags

from launch import program


def define(values):
    """Add the program's own flags."""
    program.define_required("workdir", "the folder of a run, or of several", values)
    flags.DEFINE_boolean("overwrite", False, "replace the output if it is a report that yseg wrote", flag_values=values)
    program.define_path("output", "the file that is created, NAME.html; default: report/report.html in the workdir", values)


def main(values):
    """Write it."""
    from yseg.runs.report_file import write_report  # needs Matplotlib and JAX, for which --help and a bad flag need not wait

    print(write_report(values.workdir, values.output, overwrite=values.overwrite))


PROGRAM = program.Program(__doc__, define, main)

if __name__ == "__main__":
    program.run(PROGRAM)
