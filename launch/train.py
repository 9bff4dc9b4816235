"""Train a segmentation network on a labelled volume and adapt it to another one.

    python -m launch.train --config=configs/epfl_to_vnc.py:ynet --workdir=runs/ynet
    python -m launch.train --config=configs/epfl_to_vnc.py:ynet --workdir=runs/short --config.optimizer.steps=1200

The workdir gets the config, checkpoints, metrics (metrics.jsonl and TensorBoard events) and pictures (report/). A run that was
interrupted is continued by the same command. Then come launch.evaluate and launch.segment.
"""

from absl import flags

import yseg
from launch import program


def define(values):
    """Add the program's own flags."""
    program.define_required("workdir", "the folder of the run; it is created", values)
    flags.DEFINE_boolean("multihost", False, "join the other processes of a SLURM job, a TPU pod and the like",
                         flag_values=values)


def main(values):
    """Train."""
    if values.multihost:
        from yseg import parallel  # needs JAX, for which --help and a bad flag need not wait

        parallel.start_processes()
    last = yseg.train(values.config, values.workdir)
    print(f"{last['workdir']}: trained for {last['step']} steps")


PROGRAM = program.Program(__doc__, define, main, takes_config=True)

if __name__ == "__main__":
    program.run(PROGRAM)
