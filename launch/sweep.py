"""Choose the weight of a method's added term without labels of the target.

    python -m launch.sweep --config=configs/epfl_to_vnc.py:dann --out=runs/sweep --weights=0.1,1,10 --config.optimizer.steps=500

Trains a run for each weight. Of those whose IoU on the source's validation part is at most 0.05 below the best one's it chooses
the one whose predictions on the target are most confident while having the source's share of foreground. What is done is skipped.
It prints the table, which is also in sweep.csv, and the chosen weight.
"""

from absl import flags

from launch import program


def define(values):
    """Add the program's own flags."""
    program.define_required("out", "the folder of the sweep; it is created", values)
    flags.DEFINE_list("weights", ["0.1", "1", "10", "100"], "the weights to try", flag_values=values)


def main(values):
    """Train, judge, rank."""
    from yseg.report import print_table  # needs Matplotlib and JAX, for which --help and a bad flag need not wait
    from yseg.studies.weight_search import COLUMNS, sweep

    weights = program.numbers("weights", values.weights, float)
    rows = sweep(values.config, weights, values.out, tell=lambda line: print(line, flush=True))
    print_table(rows, COLUMNS[:-1], values.out)
    print(f"weight {rows[0]['weight']:g}")


PROGRAM = program.Program(__doc__, define, main, takes_config=True)

if __name__ == "__main__":
    program.run(PROGRAM)
