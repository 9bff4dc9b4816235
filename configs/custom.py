r"""Your own volumes: a labelled source and a target, whose labels, if any, are used for scoring alone.

The methods are those of Roels, Hennies, Saeys, Philips, Kreshuk: Domain adaptive segmentation in volume electron microscopy
imaging, ISBI 2019. A 2-D U-Net is trained on the source and adapted to the target. The last fifth of the source along x is kept
for validation. The last third of the target along x is kept for the test; if the target has no labels, give
--config.target.test_fraction=0, so that the whole of it is used for adaptation.

Needs both volumes with the size of a pixel, and the labels of the source. A volume is a multi-page .tif, a folder of .tif or
.png sections, a .zarr and the like. Choose --config.sampling.working_pixel_size_nm so that the structures you look for are some
20 to 60 pixels wide. Cost: as epfl_to_vnc, and reading the volumes.

    python -m launch.train --config=configs/custom.py --workdir=runs/custom \
        --config.source.image=a.tif --config.source.labels=a_labels.tif \
        --config.source.pixel_size_nm=5 --config.source.foreground=">0" \
        --config.target.image=b.tif --config.target.labels=b_labels.tif \
        --config.target.pixel_size_nm=4.6 --config.target.foreground=">0" --config.target.test_fraction=0.33
    python -m launch.evaluate --workdir=runs/custom
    python -m launch.segment --workdir=runs/custom --image=b.tif --pixel_size_nm=4.6 --output=b_segmented.zarr

Methods, as in --config=configs/custom.py:ynet: ft, mmd, coral, dann, ynet, self_training (the default).
"""

import os

from yseg.config import Domain, Experiment, Loss, Model, Optimizer, Sampling, strong_augmentation


def get_config(method="self_training"):
    """The experiment with one of the methods; its volumes are still to be given."""
    return Experiment(
        name=f"custom, {method}",
        method=method,
        data_dir=os.environ.get("YSEG_DATA", ""),  # for --config.source.dataset and --config.target.dataset alone
        source=Domain(split_axis="x", validation_fraction=0.2),
        target=Domain(split_axis="x", test_fraction=0.33),
        sampling=Sampling(working_pixel_size_nm=16.0, patch_size=96, batch_size=4),
        augmentation=strong_augmentation(),
        model=Model(levels=3, features=16),
        loss=Loss(name="jaccard_cross_entropy"),
        optimizer=Optimizer(steps=2700),
    )
