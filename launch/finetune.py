"""Train the network of a run further on some labels of the target.

    python -m launch.finetune --from=runs/ynet --workdir=runs/ynet_15 --fraction=0.15

The labels are those of a share of the target's training part: whole sections, chosen by the seed, a smaller share inside a
larger one; config.json lists them. Then come launch.evaluate and launch.segment. A run that was interrupted is continued by the
same command.
"""

from absl import flags

import yseg
from launch import program


def define(values):
    """Add the program's own flags."""
    program.define_required("from", "the folder of a run of launch.train", values)
    program.define_required("workdir", "the folder of the new run; it is created", values)
    program.define_share("fraction", "a share of the labels of the target's training part, from 0 to 1", values)
    flags.DEFINE_integer("steps", 200, "training steps", lower_bound=1, flag_values=values)
    flags.DEFINE_float("learning_rate", 1e-4, "peak learning rate", lower_bound=0, flag_values=values)
    flags.DEFINE_integer("seed", None, "chooses labels, patches and augmentation; default: the run's", lower_bound=0,
                         flag_values=values)


def main(values):
    """Fine-tune."""
    last = yseg.finetune(values["from"].value, values.workdir, values.fraction, values.steps, values.learning_rate, values.seed)
    print(f"{last['workdir']}: trained for {last['step']} steps")


PROGRAM = program.Program(__doc__, define, main)

if __name__ == "__main__":
    program.run(PROGRAM)
