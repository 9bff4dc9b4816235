"""Adapt the network of a run to the target by self-training, without labels of the target.

    python -m launch.adapt --from=runs/ft --workdir=runs/adapted

The network goes on with the labels of the source and with pseudo-labels of the target: what the average of its own parameters is
sure of. The pseudo-labels are renewed as it learns; pseudo_labels/ in the workdir holds them. The last line says whether the
adapted network is used by launch.evaluate and launch.segment, or the one before, and why: what speaks for it are sections that
agree. What was interrupted is continued by the same command. --config=FILE.py:self_training of launch.train does both stages in
one workdir.
"""

from absl import flags

import yseg
from launch import program


def define(values):
    """Add the program's own flags."""
    program.define_required("from", "the folder of a run of launch.train", values)
    program.define_required("workdir", "the folder of the new run; it is created", values)
    flags.DEFINE_integer("steps", None, "training steps; default: the run's self_training.steps", lower_bound=1,
                         flag_values=values)
    flags.DEFINE_integer("seed", None, "chooses patches and augmentation; default: the run's", lower_bound=0, flag_values=values)
    program.define_tracker(values)
    program.define_moved(values)


def main(values):
    """Adapt."""
    program.print_end(yseg.adapt(values["from"].value, values.workdir, steps=values.steps, seed=values.seed,
                                 moved=program.moved(values), tracker=values.tracker or ""))


PROGRAM = program.Program(__doc__, define, main)

if __name__ == "__main__":
    program.run(PROGRAM)
