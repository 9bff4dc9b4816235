"""PyTorch's training as a program, with validations: python -m tests.benchmarks.reference_result FOLDER WORKDIR SEED COMPILED.

The same as `tests.benchmarks.result.ours`; a line of WORKDIR/metrics.jsonl for each validation.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
import zarr

from tests.benchmarks.reference import UNet, device, soft_jaccard
from tests.benchmarks.reference_loop import Patches
from tests.benchmarks.setting import SMALL
from yseg.config import Optimizer, strong_augmentation

# As in `tests.benchmarks.result`, which is not imported: JAX would come with it, and take its time.
STEPS, EVERY, VALIDATION = 400, 20, 0.2
SECTIONS = 8  # of a validation; all in the last


class Normalised(Patches):
    """Patches of a volume that is normalised already."""

    def _levels(self, values):
        return values


def iou(network, image, labels):
    """Of sections [z, y, x], mirrored to a multiple of what the network halves."""
    network.eval()
    multiple, (height, width) = 2**SMALL.levels, image.shape[1:]
    padding = ((0, 0), *((0, -size % multiple) for size in (height, width)))
    found = []
    with torch.inference_mode():
        for section in np.pad(image, padding, mode="reflect"):
            logits = network(torch.from_numpy(section[None, None]).contiguous(memory_format=torch.channels_last).to(device()))
            found.append(logits.argmax(1)[0, :height, :width].cpu().numpy() > 0)
    network.train()
    found, labels = np.stack(found), labels > 0
    return np.count_nonzero(found & labels) / max(1, np.count_nonzero(found | labels))


def main():
    """Train, and write a line for each validation."""
    folder, workdir, seed, compiled = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1"
    torch.manual_seed(seed)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    image, labels = (zarr.open_array(f"{folder}/{name}.zarr", mode="r")[:] for name in ("image", "labels"))
    image = ((image - image.mean(dtype=np.float64)) / image.std(dtype=np.float64)).astype(np.float32)
    labels, cut = labels.astype(np.int8), image.shape[2] - round(VALIDATION * image.shape[2])
    patches = Normalised(image[..., :cut], labels[..., :cut], SMALL.patch, strong_augmentation(), STEPS * 2 * SMALL.batch)
    loader = torch.utils.data.DataLoader(patches, 2 * SMALL.batch, num_workers=2, pin_memory=device().type == "cuda")
    network = UNet(SMALL.levels, SMALL.features).to(device(), memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=Optimizer().learning_rate, fused=True)

    def loss_of(images, labels):
        return soft_jaccard(network(images), labels)

    forward = torch.compile(loss_of) if compiled else loss_of
    workdir.mkdir(exist_ok=True)
    chosen = np.linspace(0, len(image) - 1, min(SECTIONS, len(image))).round().astype(int)
    with open(workdir / "metrics.jsonl", "w", encoding="utf-8") as metrics:
        for step, (images, truth) in enumerate(loader, 1):
            optimizer.zero_grad(set_to_none=True)
            loss = forward(images.to(device(), memory_format=torch.channels_last), truth.to(device()))
            loss.backward()
            optimizer.step()
            if step % EVERY == 0:
                sections = np.arange(len(image)) if step == STEPS else chosen
                found = iou(network, image[sections, :, cut:], labels[sections, :, cut:])
                print(json.dumps({"step": step, "validation_iou": found}), file=metrics, flush=True)


if __name__ == "__main__":
    main()
