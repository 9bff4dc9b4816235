"""Train a segmentation network on a labelled volume and adapt it to another one.

    python -m launch.train --config=configs/epfl_to_vnc.py:ynet --workdir=runs/ynet
    python -m launch.train --config=configs/epfl_to_vnc.py:ynet --workdir=runs/short --config.optimizer.steps=300
    python -m launch.train --config=configs/epfl_to_vnc.py:ynet --workdir=runs/three --seeds=0,1,2

The workdir gets the config, checkpoints, metrics (metrics.jsonl and TensorBoard events) and pictures (report/). A run that was
interrupted is continued by the same command. Then come launch.evaluate and launch.segment. With --seeds there are several runs:
WORKDIR/seed0, WORKDIR/seed1, ...; all at once on a GPU or TPU, one after the other on a CPU.
"""

import dataclasses
from pathlib import Path

from absl import flags

from launch import program
from yseg.config import InputError, quick


def define(values):
    """Add the program's own flags."""
    program.define_required("workdir", "the folder of the run; it is created", values)
    define_training(values)


def define_training(values):
    """The flags but for the config and the workdir, which launch.check takes, too."""
    flags.DEFINE_list("seeds", [], "train once with each of these seeds, each in a folder seedN of the workdir; default: the"
                      " config's, in the workdir itself", flag_values=values)
    flags.DEFINE_boolean("together", None, "with --seeds: train all at once, in one step; default: on an accelerator",
                         flag_values=values)
    flags.DEFINE_enum("budget", "full", ["full", "quick"], "quick: a third of the config's training steps, to see what comes"
                      " out", flag_values=values)
    program.define_tracker(values)
    flags.DEFINE_boolean("multihost", False, "join the other processes of a SLURM job, a TPU pod and the like, or those that"
                         " the next flags say", flag_values=values)
    flags.DEFINE_string("coordinator", None, "with --multihost: HOST:PORT at which the first process listens; default: as the"
                        " cluster says", flag_values=values)
    flags.DEFINE_integer("processes", None, "with --multihost: how many there are", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("process", None, "with --multihost: which one this is, from 0 on", lower_bound=0, flag_values=values)
    flags.DEFINE_integer("heartbeat_timeout", 100, "with --multihost: seconds after which a process that is not heard of any more"
                         " ends the others", lower_bound=1, flag_values=values)


def main(values):
    """Train."""
    check_multihost(values)
    if values.multihost:
        from yseg import parallel  # needs JAX, for which --help and a bad flag need not wait

        parallel.start_processes(values.coordinator, values.processes, values.process,
                                 heartbeat_timeout=values.heartbeat_timeout)
    from yseg.runs.population import train_population

    runs = members(budgeted(values), values.workdir, values.seeds)
    configs, workdirs = zip(*runs, strict=True)
    for last in train_population(configs, workdirs, together=values.together, more_steps=True, tracker=values.tracker or ""):
        program.print_end(last)


def check_multihost(values):
    """InputError if a flag is given that says nothing without --multihost."""
    for name in ("coordinator", "processes", "process"):
        value = getattr(values, name)
        if value is not None and not values.multihost:
            raise InputError(f"--{name}={value}: must come with --multihost")


def budgeted(values):
    """The config with the training steps of --budget."""
    return quick(values.config) if values.budget == "quick" else values.config


def members(config, workdir, seeds):
    """The runs, [(config, workdir), ...]: one with the config's own seed, or one for each of the `seeds`, texts."""
    if not seeds:
        return [(config, workdir)]
    return [(dataclasses.replace(config, seed=seed), Path(workdir) / f"seed{seed}")
            for seed in program.numbers("seeds", seeds, int)]


PROGRAM = program.Program(__doc__, define, main, takes_config=True)

if __name__ == "__main__":
    program.run(PROGRAM)
