"""Show what adaptation does: a volume without labels segmented before and after it.

    python -m launch.demo --config=configs/demo.py --workdir=runs/demo

A network is trained on the labelled source and adapted to the target, without its labels. Both are scored on a part of the target
that no training sees, beside an oracle: the network of the source, trained further on the labels of the rest of the target. Below
the workdir are the runs adapted/ and oracle/, segmentations of the whole target before and after the adaptation, and demo.png,
what is right and wrong in a section. A demo that was interrupted is continued by the same command.
"""

from pathlib import Path

from absl import flags

import yseg
from launch import program
from yseg.config import SELF_TRAINING


def define(values):
    """Add the program's own flags."""
    program.define_required("workdir", "the folder of what the demo makes; it is created", values)
    flags.DEFINE_integer("oracle_steps", 500, "training steps of the oracle, from the network of the source", lower_bound=1,
                         flag_values=values)


def main(values):
    """Train, adapt, score, segment and draw; the table, the picture and the segmentation come last."""
    # These need JAX or Matplotlib, for which --help and a bad flag need not wait.
    from yseg.data.domain import open_own_domain, resolved_domains
    from yseg.report import print_table, side_by_side
    from yseg.runs.folder import FIRST_STAGE, read_config
    from yseg.runs.samples import middle_section

    config, workdir = values.config, Path(values.workdir)
    if config.method != SELF_TRAINING:
        raise yseg.InputError(f"--config.method={config.method}: must be {SELF_TRAINING}, with a network before it and one after")
    target = resolved_domains(config)["target"]
    if not target.labels or not target.test_fraction:
        raise yseg.InputError("target.labels and target.test_fraction must be given: the networks are scored on that part")
    adapted, oracle = workdir / "adapted", workdir / "oracle"
    program.print_end(yseg.train(config, adapted))
    program.print_end(yseg.finetune(adapted / FIRST_STAGE, oracle, 1.0, steps=values.oracle_steps,
                                    learning_rate=config.optimizer.learning_rate))
    rows = {"source only": yseg.evaluate(adapted, adapted=False), "adapted": yseg.evaluate(adapted, adapted=True),
            "oracle": yseg.evaluate(oracle)}
    resolved = read_config(adapted)
    outputs = {name: yseg.segment(adapted, resolved.target.image, workdir / f"{name.replace(' ', '_')}.zarr", adapted=use,
                                  overwrite=True)
               for name, use in (("source only", False), ("adapted", True))}
    print()
    print_table([{"network": name, **row} for name, row in rows.items()], ["network", "iou", "precision", "recall", "f1"],
                "The target's part for the test")
    volume = open_own_domain(resolved, "target", with_labels=True)
    section = middle_section(volume.split.test)
    found = {f"{name}, IoU {rows[name]['iou'] or 0:.2f}": yseg.open_volume(f"{output}/0")[section.slices].read().result()[0]
             for name, output in outputs.items()}
    image, truth = volume.image[section.slices].read().result()[0], volume.classes(section)[0]
    title = f"{config.name}: section {section.start[0]}, the part for the test"
    print(side_by_side(image, truth, found, workdir / "demo.png", title=title, pixel_size_nm=volume.pixel_size_nm))
    print(outputs["adapted"])


PROGRAM = program.Program(__doc__, define, main, takes_config=True)

if __name__ == "__main__":
    program.run(PROGRAM)
