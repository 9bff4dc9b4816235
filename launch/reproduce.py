"""Train and score all that a table or figure of the paper needs, and write it.

    python -m launch.reproduce --experiment=table1 --config=configs/epfl_to_vnc.py --out=runs/table1
    python -m launch.reproduce --experiment=figure3 --config=configs/epfl_to_vnc.py --out=runs/table1 --seeds=0

What is missing is trained, what is done is skipped: the same command continues, and experiments share their runs in one folder.
It leaves results.csv, costs.csv, and table1.md, figure1.png, figure3.png, figure4.png or criteria.md.
"""

from absl import flags

from launch import program
from yseg.config import TUNING_STEPS


def define(values):
    """Add the program's own flags."""
    flags.DEFINE_enum("experiment", "table1", ["table1", "figure1", "figure3", "figure4", "criteria"], "table1: all methods and"
                      " an oracle; figure1: the domain shift by level; figure3: fine-tuned on shares of the target labels;"
                      " figure4: a section, segmented before and after; criteria: how well runs are ranked without target labels",
                      flag_values=values)
    flags.DEFINE_enum("budget", "cpu", ["smoke", "quick", "cpu", "gpu"], "smoke: a few steps of a tiny network, to try the way;"
                      " quick: a third of the steps; cpu: the config as it is; gpu: full resolution and the paper's network",
                      flag_values=values)
    program.define_required("out", "the folder of the experiment; it is created", values)
    flags.DEFINE_list("methods", [], "methods of table1, criteria and figure3; default: all", flag_values=values)
    flags.DEFINE_boolean("labelled_rows", True, "table1: also the rows that train with target labels, the oracle among them",
                         flag_values=values)
    flags.DEFINE_list("seeds", ["0", "1", "2"], "seeds of the runs", flag_values=values)
    flags.DEFINE_list("fractions", ["0.05", "0.15", "0.3", "0.6", "1"], "figure3: shares of the target labels",
                      flag_values=values)
    flags.DEFINE_integer("tuning_steps", TUNING_STEPS, "training steps of a fine-tuning", lower_bound=1, flag_values=values)


def main(values):
    """Plan, say what it costs, train, score, write."""
    from yseg.runs.resolve import resolve  # needs JAX, for which --help and a bad flag need not wait
    from yseg.studies import paper

    seeds, fractions = program.numbers("seeds", values.seeds, int), program.numbers("fractions", values.fractions, float)
    configs = {method: resolve(paper.with_budget(config, values.budget)) for method, config in values.config.items()}
    runs = paper.plan(values.experiment, configs, seeds, fractions=fractions, methods=values.methods,
                      labelled_rows=values.labelled_rows)
    print(paper.cost(runs, values.out), flush=True)
    tuning_steps = 2 if values.budget == "smoke" else values.tuning_steps
    rows = paper.execute(runs, values.out, tuning_steps, tell=lambda line: print(line, flush=True))
    print(paper.summarise(values.experiment, runs, rows, values.out))


PROGRAM = program.Program(__doc__, define, main, takes_config=True, every_method=True)

if __name__ == "__main__":
    program.run(PROGRAM)
