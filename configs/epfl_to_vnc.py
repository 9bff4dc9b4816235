"""Mitochondria from EPFL (FIB-SEM, mouse hippocampus) to VNC (ssTEM, fly): target "D" of the paper.

Roels, Hennies, Saeys, Philips, Kreshuk: Domain adaptive segmentation in volume electron microscopy imaging, ISBI 2019, table 1.
A 2-D U-Net is trained on the labelled EPFL training volume and adapted to the VNC stack without its labels, both at 16 nm; it
is scored by the IoU on the last 33 % of the VNC stack along x, which no method sees in training.

Needs the data sets epfl and vnc in the folder that YSEG_DATA or --config.data_dir names. Cost: 2700 steps and, for
self_training, 2400 more: about 30 minutes on one CPU core of two, beside another training; a third of it with --budget=quick
of launch.train. IoU, means of three seeds: ft 0.51, self_training 0.66 (configs/README.md).

    python -m launch.train --config=configs/epfl_to_vnc.py --workdir=runs/epfl_to_vnc
    python -m launch.evaluate --workdir=runs/epfl_to_vnc

Methods, as in --config=configs/epfl_to_vnc.py:ynet: ft, mmd, coral, dann, ynet, self_training (the default).
"""

import os

from yseg.config import Domain, Experiment, Loss, Model, Optimizer, Sampling, strong_augmentation


def get_config(method="self_training"):
    """The experiment with one of the methods."""
    return Experiment(
        name=f"EPFL to VNC, {method}",
        method=method,
        data_dir=os.environ.get("YSEG_DATA", ""),
        source=Domain(dataset="epfl", split_axis="x", validation_fraction=0.2),
        target=Domain(dataset="vnc", split_axis="x", test_fraction=0.33),
        sampling=Sampling(working_pixel_size_nm=16.0, patch_size=96, batch_size=4),
        augmentation=strong_augmentation(),
        model=Model(levels=3, features=16),
        loss=Loss(name="jaccard_cross_entropy"),
        optimizer=Optimizer(steps=2700),
    )
