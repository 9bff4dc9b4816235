"""The other side: the same U-Net, loss and optimiser in PyTorch, as its users would write them for speed."""

import itertools
import os
import time

import numpy as np
import torch
from torch import nn

from tests.benchmarks.setting import z_scored

MOMENTUM = 0.02  # of the running statistics; 1 - MOMENTUM of yseg.models.normalization, as PyTorch counts the new part


class Block(nn.Sequential):
    """Two 3x3 convolutions, each with batch normalisation and a rectifier."""

    def __init__(self, inputs, features):
        layers = []
        for channels in (inputs, features):
            layers += [nn.Conv2d(channels, features, 3, padding=1, bias=False), nn.BatchNorm2d(features, momentum=MOMENTUM),
                       nn.ReLU(inplace=True)]
        super().__init__(*layers)


class UNet(nn.Module):
    """The U-Net of yseg with batch normalisation: images [batch, 1, y, x] -> logits [batch, 2, y, x]."""

    def __init__(self, levels, features):
        super().__init__()
        maps = [features * 2**level for level in range(levels + 1)]
        self.encoder = nn.ModuleList(Block(inputs, outputs) for inputs, outputs in zip([1, *maps], maps, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * size, size, 2, stride=2) for size in maps[:-1])
        self.decoder = nn.ModuleList(Block(2 * size, size) for size in maps[:-1])
        self.output = nn.Conv2d(features, 2, 1)

    def forward(self, x):
        """Logits [batch, 2, y, x]."""
        activations = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else nn.functional.max_pool2d(x, 2))
            activations.append(x)
        for level in reversed(range(len(self.up))):
            x = self.decoder[level](torch.cat([activations[level], self.up[level](x)], dim=1))
        return self.output(x).float()


def copy_weights(network, variables):
    """Give a `UNet` the parameters of yseg's, a tree of NumPy arrays.

    The two have as many parameters, but for the upsampling's offsets: yseg has one for each of the four pixels that a pixel
    becomes, a transposed convolution one for all four.
    """
    params = variables["params"]
    encoder, decoder = params["encoder"], params["decoder"]
    with torch.no_grad():
        for level, block in enumerate(network.encoder):
            _copy_block(block, encoder[f"level_{level}"])
        for level, (up, block) in enumerate(zip(network.up, network.decoder, strict=True)):
            _copy_block(block, decoder[f"level_{level}"])
            dense = decoder[f"up_{level}"]["Dense_0"]
            size = up.out_channels
            offsets = dense["bias"].reshape(4, size)
            if not (offsets == offsets[0]).all():
                raise ValueError("the offsets of the four pixels differ: no transposed convolution computes this")
            up.weight.copy_(_tensor(dense["kernel"].reshape(-1, 2, 2, size).transpose(0, 3, 1, 2)))
            up.bias.copy_(_tensor(offsets[0]))
        network.output.weight.copy_(_tensor(decoder["output"]["kernel"].T[:, :, None, None]))
        network.output.bias.copy_(_tensor(decoder["output"]["bias"]))
    ours = sum(leaf.size for leaf in _leaves(params))
    theirs = sum(parameter.numel() for parameter in network.parameters())
    assert ours - theirs == 3 * sum(up.out_channels for up in network.up), (ours, theirs)


def _copy_block(block, params):
    for number in range(2):
        convolution, normalization = block[3 * number], block[3 * number + 1]
        learned = params[f"Normalization_{number}"]["BatchNorm_0"]
        convolution.weight.copy_(_tensor(params[f"Conv_{number}"]["kernel"].transpose(3, 2, 0, 1)))
        normalization.weight.copy_(_tensor(learned["scale"]))
        normalization.bias.copy_(_tensor(learned["bias"]))


def _tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array))


def _leaves(tree):
    return [leaf for value in tree.values() for leaf in (_leaves(value) if isinstance(value, dict) else [value])]


def soft_jaccard(logits, labels):
    """1 - sum p g / sum (p + g - p g) of the foreground: logits [batch, 2, y, x], labels float [batch, y, x] in {0, 1}."""
    probability = torch.softmax(logits, dim=1)[:, 1]
    overlap = (probability * labels).sum()
    return 1 - overlap / (probability.sum() + labels.sum() - overlap)


def device():
    """Where PyTorch computes: a GPU if it has one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check(values):
    """Raise AssertionError unless PyTorch computes what yseg does: logits, loss and a gradient, with the same weights.

    Args:
      values: of `tests.benchmarks.ours.check_values`.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    network = _network_of(values, torch.contiguous_format)
    logits = network(_images(values["images"], torch.contiguous_format))
    loss = soft_jaccard(logits, _labels(values["labels"]))
    loss.backward()
    found = logits.detach().cpu().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, values["logits"], rtol=0, atol=1e-4 * max(1, np.abs(values["logits"]).max()))
    np.testing.assert_allclose(loss.item(), values["loss"], rtol=0, atol=1e-4)
    gradient = network.encoder[0][0].weight.grad.cpu().numpy().transpose(2, 3, 1, 0)
    np.testing.assert_allclose(gradient, values["first_gradient"], rtol=0, atol=1e-2 * np.abs(values["first_gradient"]).max())
    # From here on as fast as a GPU can.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.benchmark = True


def _network_of(values, memory_format):
    params = values["variables"]["params"]
    network = UNet(len(params["encoder"]) - 1, params["encoder"]["level_0"]["Conv_0"]["kernel"].shape[-1])
    copy_weights(network, values["variables"])
    return network.to(device(), memory_format=memory_format)


def _images(images, memory_format):
    return _tensor(images.transpose(0, 3, 1, 2)).to(device(), memory_format=memory_format)


def _labels(labels):
    return _tensor(labels.astype(np.float32)).to(device())


def trainer(values, setting, dtype="float32"):
    """(step, network): `step(images [batch, 1, y, x], labels [batch, y, x])` is one step of Adam; returns the loss.

    Args:
      values: see `check`.
      setting: of `settings`.
      dtype: "float32", or "bfloat16" for autocast.
    """
    memory_format, compiled, threads = setting
    torch.set_num_threads(threads)
    network = _network_of(values, memory_format).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def loss_of(images, labels):
        with torch.autocast(device().type, torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = network(images)
        return soft_jaccard(logits.float(), labels)

    forward = torch.compile(loss_of) if compiled else loss_of

    def step(images, labels):
        optimizer.zero_grad(set_to_none=True)
        loss = forward(images, labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step, network


def settings():
    """What PyTorch's speed may depend on: (memory format, whether it is compiled, threads), all combinations."""
    cores = len(os.sched_getaffinity(0))
    threads = (cores,) if device().type == "cuda" or cores == 1 else (cores, cores // 2)
    return list(itertools.product((torch.contiguous_format, torch.channels_last), (False, True), threads))


def words(setting):
    """A setting for people."""
    memory_format, compiled, threads = setting
    layout = "channels last" if memory_format is torch.channels_last else "contiguous"
    return f"{layout}, {'torch.compile' if compiled else 'eager'}, {threads} threads"


def fastest(build, candidates, calls=3):
    """The fastest of the candidates: `build(candidate)` -> run, timed over some calls after one to warm up."""
    best = None
    for candidate in candidates:
        try:
            run = build(candidate)
            run()
        except Exception as error:  # such as a compiler that is missing
            print(f"PyTorch: left out {candidate}: {type(error).__name__}: {str(error).splitlines()[0]}", flush=True)
            continue
        times = []
        for _ in range(calls):
            began = time.perf_counter()
            run()
            times.append(time.perf_counter() - began)
        if best is None or min(times) < best[0]:
            best = (min(times), candidate)
    if best is None:
        raise RuntimeError("PyTorch: no setting works")
    return best[1]


def wait():
    """Wait for what a GPU has been given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def build_step(values, steps, dtype="float32"):
    """A side: `steps` training steps on one batch, in the fastest setting. Facts: the setting."""
    check(values)

    def build(setting, steps):
        step, _ = trainer(values, setting, dtype)
        images, labels = _images(values["images"], setting[0]), _labels(values["labels"])

        def run():
            for _ in range(steps):
                step(images, labels)
            wait()

        return run

    setting = fastest(lambda setting: build(setting, 2), settings())
    return build(setting, steps), {"setting": words(setting)}


def build_tiles(values, tiles, count):
    """A side: the network on `count` tiles, uint8 [y, x] each, one after the other: softmax, and back to NumPy."""
    check(values)

    def build(setting, count):
        memory_format, compiled, threads = setting
        torch.set_num_threads(threads)
        network = _network_of(values, memory_format).eval()
        forward = torch.compile(network) if compiled else network

        def run():
            with torch.inference_mode():
                for number in range(count):
                    image = _images(z_scored(tiles[number % len(tiles)])[None, ..., None], memory_format)
                    torch.softmax(forward(image), dim=1).cpu().numpy()

        return run

    setting = fastest(lambda setting: build(setting, 1), settings())
    return build(setting, count), {"setting": words(setting)}
