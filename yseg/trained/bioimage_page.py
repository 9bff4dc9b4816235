"""README.md of a package of bioimage.io: what the network takes, what it leaves out, where it comes from."""

from collections.abc import Mapping, Sequence
from typing import Any

from yseg.config import SECTION, Experiment, Inference, Model
from yseg.trained.example import TARGET
from yseg.trained.network import TrainedNetwork
from yseg.trained.onnx_network import INPUT
from yseg.trained.pytorch_weights import arguments


def page(network: TrainedNetwork, description: Mapping[str, Any], *, sizes: tuple[int, int, int], example_of: str,
         citations: Sequence[str], pytorch: str = "") -> str:
    """The page, in Markdown.

    Args:
      network: what is packed.
      description: what model.json says of it: its threshold and provenance are taken from there.
      sizes: smallest size, step and halo of a tile, in working pixels.
      example_of: see `yseg.trained.example.Example`.
      citations: of the method and the data.
      pytorch: the version of PyTorch for which there are weights; "" = there are none.
    """
    threshold, provenance = description["inference"]["threshold"], description["provenance"]
    parts = [f"# {network.config.name}", _network(network, provenance), "## Input", _input(network, sizes), "## Normalisation",
             _normalisation(network.config), "## Output", _output(network, threshold, sizes[2]),
             *(["## PyTorch", _pytorch(network.config.model, pytorch)] if pytorch else []),
             "## What yseg does beyond the network", _beyond(network.config.inference), "## Validation",
             _validation(provenance, example_of, pytorch), "## Data and licences", _data(provenance, network.config),
             "## Citation", "\n".join(f"- {citation}" for citation in citations)]
    return "\n\n".join(parts) + "\n"


def _network(network, provenance):
    model = network.config.model
    text = (f"A 2-D U-Net for sections of volume electron microscopy: {model.levels} poolings, {model.features} feature maps at"
            f" full resolution, {model.classes} classes. It was trained by [yseg](https://arxiv.org/abs/1810.09734), method"
            f" `{provenance.get('method')}`, for {provenance.get('step')} steps, and exported on {provenance.get('date')} by yseg"
            f" {provenance.get('yseg')}.")
    if model.normalization == "batch":
        text += f" Its batch normalisation uses the `{network.statistics}` statistics."
    if share := provenance.get("share_of_target_labels"):
        text += f" It has seen {share:.0%} of the target's training labels."
    if model.compute_dtype != "float32":
        text += (f" With yseg its activations are {model.compute_dtype}, and here float32: probabilities differ by the rounding"
                 f" of {model.compute_dtype}.")
    return text


def _input(network, sizes):
    model, (smallest, step, _) = network.config.model, sizes
    size = network.config.sampling.working_pixel_size_nm
    channels = "one channel" if model.sections == 1 else (
        f"{model.sections} channels: the section that is segmented in the middle, those before and behind it around it; beyond"
        " the first and last section of a volume that section again")
    return (f"Grey levels `[batch, channel, y, x]`, float32, {channels}. **Pixels must measure {size:g} nm in y and x**: resample"
            " the image before, with anti-aliasing; sections are not resampled. y and x may each be"
            f" {smallest}, {smallest + step}, {smallest + 2 * step}, ... pixels (the network itself takes any multiple of"
            f" {step}, but the halo must fit).")


def _normalisation(config: Experiment) -> str:
    if config.sampling.normalization == SECTION:
        return ("The network was trained on grey levels of which every section has mean 0 and deviation 1. `rdf.yaml` asks for"
                " that: `zero_mean_unit_variance` over y and x. yseg takes mean and deviation of the whole section, less its"
                " pixels of grey level 0, which it takes for no tissue. A program"
                " that normalises tile by tile takes those of the tile: a tile of bright cytoplasm alone is made darker than it"
                " is in its section. Let the program have whole sections, one at a time, and cut the tiles after"
                " normalising, as bioimageio.core does, or normalise each section yourself and remove the step.")
    counts = ("" if config.model.sections <= 3 else " (but for the first and last sections, which are channels of more than one"
              " entry of the batch, and count more)")
    return ("The network was trained on grey levels of which the whole **volume** has mean 0 and deviation 1, and yseg segments"
            " with those of the volume (of up to 32 sections, evenly spaced). `rdf.yaml` asks for `zero_mean_unit_variance` over"
            " batch, channel, y and x, that is, over all that a program is given at once. It does not fix a mean and a deviation,"
            " as those of one volume are wrong for the next: another microscope has other grey levels.\n\n"
            "- With all sections of a volume as one batch, cut into tiles after normalising, this is yseg's normalisation"
            f"{counts}, and so are the probabilities:\n\n"
            "      from bioimageio.core import predict  # sections: [z, channel, y, x]\n"
            f"      predict(model=\"rdf.yaml\", inputs={{\"{INPUT}\": sections.astype(\"float32\")}}, blocksize_parameter=8)\n\n"
            "  Without `blocksize_parameter` bioimageio.core counts the mirrored halo among the grey levels.\n"
            "- A program that is given one section takes that section's, and one that normalises tile by tile the tile's: a tile"
            " that is all cytoplasm, or half empty resin, is stretched to contrasts that it does not have in its volume, and what"
            " is dark in it may be taken for foreground. Neighbouring tiles may then disagree at their border.\n"
            "- For such programs replace the step by `fixed_zero_mean_unit_variance` with the mean and standard deviation of your"
            " volume.")


def _output(network, threshold, halo):
    model = network.config.model
    if model.classes == 2:
        classes = f"A pixel is foreground where channel 1 is **at least {threshold:g}**."
    else:
        classes = f"The class of a pixel is the channel, of {model.classes}, with the highest value; channel 0 is background."
    text = (f"Probabilities `[batch, class, y, x]`, float32, which sum to 1. {classes} {halo} pixels at each border, the halo,"
            " depend on what lies beyond the tile: cut them off, or mirror the image there, as yseg and bioimageio.core do.")
    if model.normalization in ("instance", "group"):
        text += f" The {model.normalization} normalisation looks at the whole tile: results depend a little on its size."
    return text


def _pytorch(model: Model, version: str) -> str:
    given = ", ".join(f"{name}={value!r}" for name, value in arguments(model).items())
    return (f"`weights.pt` has the same weights as a state dict, written with PyTorch {version}, and `unet.py` is the network,"
            " which needs PyTorch alone:\n\n"
            "      import torch\n"
            "      from unet import UNet\n"
            f"      network = UNet({given}).eval()\n"
            "      network.load_state_dict(torch.load(\"weights.pt\", weights_only=True))\n\n"
            "It can be trained on, by its `logits`; dropout, if yseg used it, is not in it.")


def _beyond(inference: Inference) -> str:
    steps = ["Tiles overlap by"
             f" {inference.overlap} pixels and are blended."]
    if inference.depth_nm:
        steps.append("Probabilities are averaged over neighbouring sections, by a Gaussian of deviation"
                     f" {inference.depth_nm:g} nm"
                     " in depth: where sections are thin this removes mistakes of single ones.")
    if inference.test_time_augmentation:
        steps.append("Probabilities are averaged over the eight rotations and mirror images of a tile.")
    if inference.plausible_objects:
        steps.append("Components of a section whose size or form is unlike that of the training labels, and of which the network"
                     " is not sure, become background.")
    steps.append("Images of another pixel size are resampled to the network's, and probabilities back to the image's voxels.")
    return ("`python -m launch.segment` applies this network, and does more, which a program that runs this package has to do"
            " itself if it is wanted:\n\n" + "\n".join(f"- {step}" for step in steps)
            + "\n\nThe threshold is that of the result of all this.")


def _validation(provenance: Mapping[str, Any], example_of: str, pytorch: str) -> str:
    iou = provenance.get("validation_iou")
    known = "" if iou is None else (f" On the part of the source that was kept for validation its IoU (intersection over union)"
                                    f" was {iou:.3f}, which says little about another volume.")
    shown = ("a tile of the middle of the target" if example_of == TARGET
             else "a tile of a drawn volume, on which nothing was trained")
    others = "ONNX Runtime" + " and PyTorch" * bool(pytorch)
    return (f"`test_input.npy`, `test_output.npy` and the cover show {shown}. The output is yseg's own; before the package was"
            f" written, {others} gave the same. `bioimageio test` repeats that." + known + " For your own images label some"
            " sections, apply the network to them, and compare: by IoU, and by counting objects that are missed or invented.")


def _data(provenance: Mapping[str, Any], config: Experiment) -> str:
    lines = []
    for name, known in provenance.get("data_sets", {}).items():
        if known:
            lines.append(f"- {name}: {known['description']}; licence: {known['licence']}")
        elif getattr(config, name).image.startswith("phantom://"):
            lines.append(f"- {name}: a volume that yseg draws")
        else:
            lines.append(f"- {name}: a volume that yseg does not know; ask whoever gave you the network")
    return ("\n".join(lines) + "\n\nThe package has no licence of its own and names no authors: whoever publishes it adds both to"
            " `rdf.yaml`, and looks at the licences of the data.").strip()
