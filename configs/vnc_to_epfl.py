"""Mitochondria from VNC (ssTEM, fly) to EPFL (FIB-SEM, mouse hippocampus): the way back, which the paper does not take.

The methods are those of Roels, Hennies, Saeys, Philips, Kreshuk: Domain adaptive segmentation in volume electron microscopy
imaging, ISBI 2019. A 2-D U-Net is trained on the labelled VNC stack and adapted to the EPFL training volume without its labels,
both at 16 nm; it is scored by the IoU on the last 33 % of the EPFL volume along x, which no method sees in training.

Needs the data sets epfl and vnc in the folder that YSEG_DATA or --config.data_dir names. Cost: as epfl_to_vnc. IoU:
ft 0.62, self_training 0.71 (means of three seeds: configs/README.md).

    python -m launch.train --config=configs/vnc_to_epfl.py --workdir=runs/vnc_to_epfl
    python -m launch.evaluate --workdir=runs/vnc_to_epfl

Methods, as in --config=configs/vnc_to_epfl.py:ynet: ft, mmd, coral, dann, ynet, self_training (the default).
"""

import os

from yseg.config import Domain, Experiment, Loss, Model, Optimizer, Sampling, strong_augmentation


def get_config(method="self_training"):
    """The experiment with one of the methods."""
    return Experiment(
        name=f"VNC to EPFL, {method}",
        method=method,
        data_dir=os.environ.get("YSEG_DATA", ""),
        source=Domain(dataset="vnc", split_axis="x", validation_fraction=0.2),
        target=Domain(dataset="epfl", split_axis="x", test_fraction=0.33),
        sampling=Sampling(working_pixel_size_nm=16.0, patch_size=96, batch_size=4),
        augmentation=strong_augmentation(),
        model=Model(levels=3, features=16),
        loss=Loss(name="jaccard_cross_entropy"),
        optimizer=Optimizer(steps=2700),
    )
