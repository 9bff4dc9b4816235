"""The whole way in minutes and without data: two procedural volumes, one like FIB-SEM of mouse, one more like ssTEM of fly.

The methods but self-training are those of Roels, Hennies, Saeys, Philips, Kreshuk: Domain adaptive segmentation in volume
electron microscopy imaging, ISBI 2019; the images are drawn by yseg.volumes.phantom. A small 2-D U-Net is trained on the labelled
source and adapted to the target without its labels, by default by self-training, both at 16 nm; it is scored by the IoU on the
last 33 % of the target along x, which holds 20 mitochondria. The target is 60 % of the way from the phantom's source to its
target in its tissue, and 70 % in its microscope, which was chosen so that the network of the source fails, though not everywhere;
so were the steps. The figures show that the programs work; they say nothing about real tissue.

Needs no data. Cost: a minute for the source, two for the adaptation, on two CPU cores, more on slow ones; IoU: source only 0.44,
adapted 0.68, an oracle 0.72. `launch/demo.sh` does all of it.

    python -m launch.train --config=configs/demo.py:self_training --workdir=runs/demo
    python -m launch.evaluate --workdir=runs/demo

Methods: ft, mmd, coral, dann, ynet, self_training (the default).
"""

from yseg.config import (
    Adaptation,
    Domain,
    Experiment,
    Loss,
    Model,
    Optimizer,
    Record,
    Sampling,
    SelfTraining,
    strong_augmentation,
)

SOURCE = "phantom://source/{content}?shape=20,896,896&seed=0"  # sections, rows and columns
TARGET = "phantom://target/{content}?shape=12,1024,1024&seed=0&tissue=0.6&microscope=0.7"


def get_config(method="self_training"):
    """The experiment with one of the methods."""
    source, target = ({content: volume.format(content=content) for content in ("image", "labels")}
                      for volume in (SOURCE, TARGET))
    return Experiment(
        name=f"demo, {method}",
        method=method,
        source=Domain(**source, pixel_size_nm=5.0, foreground=">0", split_axis="x", validation_fraction=0.2),
        target=Domain(**target, pixel_size_nm=4.6, foreground=">0", split_axis="x", test_fraction=0.33),
        sampling=Sampling(working_pixel_size_nm=16.0, patch_size=96, batch_size=4),
        augmentation=strong_augmentation(),
        model=Model(levels=3, features=12),
        adaptation=Adaptation(reconstruction_source=0.1, reconstruction_target=0.1),
        loss=Loss(name="jaccard_cross_entropy"),
        optimizer=Optimizer(steps=800, learning_rate=2e-3),  # few steps want a high rate
        self_training=SelfTraining(steps=900, learning_rate=2e-3, renew_every=200),
        record=Record(log_every=10, validate_every=0, checkpoint_every=500),
    )
