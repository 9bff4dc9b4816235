r"""Mitochondria from EPFL (FIB-SEM, mouse hippocampus) to HeLa cells (FIB-SEM): target "H" of the paper.

Roels, Hennies, Saeys, Philips, Kreshuk: Domain adaptive segmentation in volume electron microscopy imaging, ISBI 2019, table 1.
The HeLa volume, 64 x 512 x 512 voxels of 5 nm with sections 8 nm apart, was never published: give it, or one like it, on the
command line. A 2-D U-Net is trained on the labelled EPFL training volume and adapted to the target without its labels, both at
16 nm; it is scored by the IoU on the last 33 % of the target along x, which no method sees in training.

Needs the data set epfl in the folder that YSEG_DATA or --config.data_dir names, and the target; without labels of the target
give --config.target.test_fraction=0 and skip the evaluation. Cost: as epfl_to_vnc; it has not been run,
as the data are not public.

    python -m launch.train --config=configs/epfl_to_hela.py --workdir=runs/epfl_to_hela \
        --config.target.image=hela.tif --config.target.labels=hela_labels.tif
    python -m launch.evaluate --workdir=runs/epfl_to_hela

Methods, as in --config=configs/epfl_to_hela.py:ynet: ft, mmd, coral, dann, ynet, self_training (the default).
"""

import os

from yseg.config import Domain, Experiment, Loss, Model, Optimizer, Sampling, strong_augmentation


def get_config(method="self_training"):
    """The experiment with one of the methods; its target is still to be given."""
    return Experiment(
        name=f"EPFL to HeLa, {method}",
        method=method,
        data_dir=os.environ.get("YSEG_DATA", ""),
        source=Domain(dataset="epfl", split_axis="x", validation_fraction=0.2),
        target=Domain(pixel_size_nm=5.0, foreground=">0", split_axis="x", test_fraction=0.33),
        sampling=Sampling(working_pixel_size_nm=16.0, patch_size=96, batch_size=4),
        augmentation=strong_augmentation(),
        model=Model(levels=3, features=16),
        loss=Loss(name="jaccard_cross_entropy"),
        optimizer=Optimizer(steps=2700),
    )
