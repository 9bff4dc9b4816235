"""Train the network of a run further on some labels of the target.

    python -m launch.finetune --from=runs/ynet --workdir=runs/ynet_15 --fraction=0.15
    python -m launch.finetune --from=runs/ynet --workdir=runs/ynet_folds --folds=5

The labels are those of a share of the target's training part: whole sections, chosen by the seed, a smaller share inside a
larger one; config.json lists them. With --folds=K the sections are dealt to K folds instead; each is scored by the network that
was fine-tuned on the others, and the workdir gets the runs, folds.csv and folds.json. Then come launch.evaluate and
launch.segment. What was interrupted is continued by the same command.
"""

from absl import flags

import yseg
from launch import program
from yseg.config import TUNING_RATE, TUNING_STEPS, InputError

_SHARE = "a share of the labels of the target's training part, from 0 to 1"


def define(values):
    """Add the program's own flags."""
    program.define_required("from", "the folder of a run of launch.train", values)
    program.define_required("workdir", "the folder of the new run; it is created", values)
    flags.DEFINE_float("fraction", None, f"{_SHARE}; with --folds, of those of the other folds, by default all", lower_bound=0,
                       upper_bound=1, flag_values=values)
    flags.DEFINE_integer("folds", None, "cross-validate: how many folds the sections are dealt to", lower_bound=2,
                         flag_values=values)
    flags.register_multi_flags_validator(["fraction", "folds"], _check_share, flag_values=values)
    flags.DEFINE_integer("steps", TUNING_STEPS, "training steps", lower_bound=1, flag_values=values)
    flags.DEFINE_float("learning_rate", TUNING_RATE, "peak learning rate", lower_bound=0, flag_values=values)
    flags.DEFINE_integer("seed", None, "chooses labels, patches and augmentation; default: the run's", lower_bound=0,
                         flag_values=values)
    program.define_tracker(values)
    program.define_moved(values)


def _check_share(given):
    if given["fraction"] is None and given["folds"] is None:
        raise InputError(f"--fraction is missing: must be {_SHARE}")
    return True


def main(values):
    """Fine-tune, once or for each fold."""
    start, fraction = values["from"].value, values.fraction
    if values.folds:
        if values.tracker:
            raise InputError(f"--tracker={values.tracker}: must not be given with --folds={values.folds}")
        _cross_validate(start, 1.0 if fraction is None else fraction, values)
        return
    last = yseg.finetune(start, values.workdir, fraction, steps=values.steps, learning_rate=values.learning_rate,
                         seed=values.seed, moved=program.moved(values), tracker=values.tracker or "")
    print(f"{last['workdir']}: trained for {last['step']} steps")


def _cross_validate(start, fraction, values):
    from yseg.report import print_table  # needs Matplotlib and JAX, for which --help and a bad flag need not wait
    from yseg.studies.cross_validation import COLUMNS, cross_validate

    found = cross_validate(start, values.workdir, values.folds, fraction=fraction, steps=values.steps,
                           learning_rate=values.learning_rate, seed=values.seed, moved=program.moved(values),
                           tell=lambda line: print(line, flush=True))
    print_table(found["folds"], COLUMNS[:-1], values.workdir)
    mean, deviation = ("undefined" if found[name] is None else f"{found[name]:.4f}" for name in ("mean_iou", "deviation_iou"))
    print(f"IoU {mean}, standard deviation {deviation}")


PROGRAM = program.Program(__doc__, define, main)

if __name__ == "__main__":
    program.run(PROGRAM)
