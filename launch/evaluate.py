"""Score a trained network against labels.

    python -m launch.evaluate --workdir=runs/ynet
    python -m launch.evaluate --workdir=runs/ynet --image=b.tif --labels=b_labels.tif --pixel_size_nm=4.6 --foreground=">0"
    python -m launch.evaluate --model=models/ynet --image=b.tif --labels=b_labels.tif --pixel_size_nm=4.6 --foreground=">0"

Without --image it is the part of the target that the config keeps for the test. The scores are printed and written into the
workdir (results.json and report/evaluation.png for that part, another file for every other question), but not into the folder of
a --model; the last line is the IoU.
"""

from absl import flags

import yseg
from launch import program

COLUMNS = ("iou", "precision", "recall", "f1", "threshold")


def define(values):
    """Add the program's own flags."""
    program.define_network(values)
    flags.DEFINE_enum("domain", "target", ["target", "source"], "without --image: the target's test part, or the source's"
                      " validation part", flag_values=values)
    program.define_statistics(values)
    program.define_path("image", "another volume than the config's target: a path or URL", values)
    program.define_path("labels", "its label volume, of the same shape", values)
    program.define_reading(values)
    flags.DEFINE_string("foreground", None, "which of its label values are foreground: '>0', '>=128', '==1,5'",
                        flag_values=values)
    flags.DEFINE_string("unlabelled", None, "which of its label values mean 'not labelled', written as in --foreground",
                        flag_values=values)
    program.define_scheduler(values)
    flags.DEFINE_string("region", None, "a part of it, in its voxels: z0:z1,y0:y1,x0:x1", flag_values=values)
    program.define_threshold(values)
    program.define_augmentation(values)
    program.define_plausible_objects(values)
    program.define_adapted(values)


def main(values):
    """Evaluate, print a table and the IoU."""
    # These need JAX and Matplotlib, for which --help and a bad flag need not wait.
    from yseg.inference.engine import serves
    from yseg.report import print_table

    if serves(values.scheduler):
        return
    results = yseg.evaluate(
        program.network(values), image=values.image, labels=values.labels, pixel_size_nm=values.pixel_size_nm,
        foreground=values.foreground, unlabelled=values.unlabelled, region=values.region, threshold=values.threshold,
        domain=values.domain, batch_statistics=values.batch_statistics, test_time_augmentation=values.test_time_augmentation,
        plausible_objects=values.plausible_objects, adapted=values.adapted, moved=program.moved(values),
        scheduler=values.scheduler, **program.reading(values))
    print_table([{"score": name, "value": results[name]} for name in COLUMNS], ["score", "value"],
                values.workdir or values.model)
    print("IoU undefined" if results["iou"] is None else f"IoU {results['iou']:.4f}")


PROGRAM = program.Program(__doc__, define, main)

if __name__ == "__main__":
    program.run(PROGRAM)
