"""EPFL to VNC at the paper's size: network, loss, augmentation, optimiser and steps as its authors had them.

Roels, Hennies, Saeys, Philips, Kreshuk: Domain adaptive segmentation in volume electron microscopy imaging, ISBI 2019, table 1,
row D; where the paper is silent, its authors' published code of 2018. Both volumes at 5 nm, a 2-D U-Net of 4 poolings and 32
feature maps, soft Jaccard loss, 100,000 steps (100 epochs of 1000) of 1 + 1 patches of 512 x 512, Adam with a rate of 1e-3 that
falls by a tenth every 10 epochs, rotations by 90 degrees, mirroring, smooth deformation and noise as augmentation, grey levels
z-scored by volume, Y-Net's reconstruction with the weight 1e-3, batch statistics of the training.

What differs: their deformation is piecewise affine on a grid of 4 x 4 points that move by 1 to 5 % of a patch; here it is a
spline over points as far apart, which move by 3 %. Their tiles of 512 overlap by half under a Gaussian; here a tile has all the
context that the network can use. Their weights of MMD, CORAL and DANN belong to other scalings of these terms; here they are
those of epfl_to_vnc. The last checkpoint is used; theirs was chosen by labels of the test part. Domains pass apart through batch
normalisation, and the running statistics are the source's.

Needs the data sets epfl and vnc in the folder that YSEG_DATA or --config.data_dir names, and a GPU. Cost: 100,000 steps; it has
not been run, neither to its end nor for its time and memory.

    python -m launch.train --config=configs/paper.py:ynet --workdir=runs/paper/ynet
    python -m launch.evaluate --workdir=runs/paper/ynet

Methods: ft, mmd, coral, dann, ynet, self_training.
"""

import os

from yseg.config import Adaptation, Augmentation, Domain, Experiment, Loss, Model, Optimizer, Record, Sampling

EPOCH = 1000  # steps


def get_config(method="ynet"):
    """The experiment with one of the methods."""
    return Experiment(
        name=f"EPFL to VNC as in the paper, {method}",
        method=method,
        data_dir=os.environ.get("YSEG_DATA", ""),
        source=Domain(dataset="epfl", split_axis="x"),  # all of it is trained on
        target=Domain(dataset="vnc", split_axis="x", test_fraction=0.33),
        sampling=Sampling(working_pixel_size_nm=5.0, patch_size=512, batch_size=1),
        augmentation=Augmentation(
            rotate=True, flip=True, elastic_probability=1.0, elastic_pixels=15.0, elastic_spacing=128,
            brightness=0.0, contrast=0.0, gamma=0.0, blur_probability=0.0, sharpen_probability=0.0,
            noise_probability=1.0, noise=0.1),
        model=Model(levels=4, features=32, batch_statistics="training"),
        loss=Loss(name="soft_jaccard"),
        adaptation=Adaptation(reconstruction_source=1e-3, reconstruction_target=1e-3),
        optimizer=Optimizer(steps=100 * EPOCH, learning_rate=1e-3, schedule="exponential", decay_rate=0.9, decay_steps=10 * EPOCH,
                            warmup_steps=0),
        record=Record(log_every=100, validate_every=10 * EPOCH, checkpoint_every=EPOCH),
    )
