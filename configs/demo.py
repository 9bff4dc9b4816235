"""The whole way in minutes and without data: two procedural volumes, one like FIB-SEM of mouse, one like ssTEM of fly.

The methods are those of Roels, Hennies, Saeys, Philips, Kreshuk: Domain adaptive segmentation in volume electron microscopy
imaging, ISBI 2019; the images are drawn by yseg.volumes.phantom. A small 2-D U-Net is trained on the labelled source and adapted
to the target without its labels, both at 10 nm; it is scored by the IoU on the last 33 % of the target along x. The figures
show that the programs work; they say nothing about real tissue. Learning rate, augmentation and weight of the reconstruction were
chosen on a phantom of another seed, the number of steps by the time they take.

Needs no data. Cost: 1.4 (ft) to 2.3 minutes (ynet) on two CPU cores; IoU: ft 0.08, ynet 0.11. `launch/demo.sh` does all of it.

    python -m launch.train --config=configs/demo.py:ynet --workdir=runs/demo/ynet
    python -m launch.evaluate --workdir=runs/demo/ynet

Methods: ft, mmd, coral, dann, ynet, self_training (the default).
"""

from yseg.config import Adaptation, Domain, Experiment, Model, Optimizer, Record, Sampling, SelfTraining, strong_augmentation

VOLUME = "phantom://{domain}/{content}?shape=16,448,448&seed=0"  # sections, rows and columns


def get_config(method="self_training"):
    """The experiment with one of the methods."""
    source, target = ({content: VOLUME.format(domain=domain, content=content) for content in ("image", "labels")}
                      for domain in ("source", "target"))
    return Experiment(
        name=f"demo, {method}",
        method=method,
        source=Domain(**source, foreground=">0", split_axis="x", validation_fraction=0.2),
        target=Domain(**target, foreground=">0", split_axis="x", test_fraction=0.33),
        sampling=Sampling(working_pixel_size_nm=10.0, patch_size=96, batch_size=4),
        augmentation=strong_augmentation(),
        model=Model(levels=3, features=12),
        adaptation=Adaptation(reconstruction_source=0.1, reconstruction_target=0.1),
        optimizer=Optimizer(steps=350, learning_rate=2e-3),  # few steps want a high rate
        self_training=SelfTraining(steps=350, renew_every=70),
        record=Record(log_every=10, validate_every=0, checkpoint_every=200),
    )
