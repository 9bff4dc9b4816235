"""A trained network as a package of the BioImage Model Zoo, bioimage.io, for programs that know nothing of yseg.

    rdf.yaml                            what the network takes and gives, by the zoo's specification 0.5
    weights.onnx                        the network, see `yseg.trained.onnx_network`
    weights.pt, unet.py                 the same for PyTorch, see `yseg.trained.pytorch_unet`; only if that is installed here
    test_input.npy, test_output.npy     an example, by which a program can see whether it applies the network right
    cover.png, README.md                for people

The example's output is yseg's own, and the package is written only if ONNX Runtime and PyTorch give the same.
"""

import json
import os
import re
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from yseg.config import LOCAL, SECTION, InputError, Model
from yseg.files import whole_file, whole_folder
from yseg.models import segmentation_network
from yseg.trained.bioimage_page import page
from yseg.trained.example import cover, make_example, z_scored
from yseg.trained.network import TrainedNetwork
from yseg.trained.onnx_network import EXTRA, INPUT, OPSET, OUTPUT, import_onnx, onnx_model
from yseg.trained.pytorch_weights import ARCHITECTURE, CALLABLE, arguments, import_torch, pytorch_network

RDF, WEIGHTS, PAGE, COVER = "rdf.yaml", "weights.onnx", "README.md", "cover.png"
TEST_INPUT, TEST_OUTPUT = "test_input.npy", "test_output.npy"
PYTORCH, UNET = "weights.pt", "unet.py"
FILES = (RDF, WEIGHTS, PAGE, COVER, TEST_INPUT, TEST_OUTPUT)
PYTORCH_FILES = (PYTORCH, UNET)
FLAG = "--format=bioimageio"
TOLERANCE = 1e-4  # of probabilities: other processors round otherwise
PAPER = ("Roels, Hennies, Saeys, Philips, Kreshuk: Domain adaptive segmentation in volume electron microscopy imaging, ISBI 2019,"
         " doi 10.48550/arXiv.1810.09734")
_SIDE = 256  # of the example, in working pixels, if the network can take that


def write_package(network: TrainedNetwork, output: Path, description: Mapping[str, Any], *, replace: bool) -> None:
    """Write a network as a package, whole or not at all: a folder, or one file if its name ends with .zip.

    Args:
      network: whose statistics are used.
      output: the folder or file.
      description: what model.json says of it, see `yseg.trained.export`; it is in the package as config.yseg.
      replace: whether an older package there may be replaced.

    Raises:
      InputError: onnx, onnxruntime or bioimageio.spec is missing; the network has what the zoo cannot say.
      OSError: the output cannot be written.
    """
    check_packable(network)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _fill(folder, network, description)
        if output.suffix == ".zip":
            output.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(output) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
                for file in sorted(folder.iterdir()):
                    archive.write(file, file.name)
        else:
            with whole_folder(output, replace=replace) as made:
                for file in sorted(folder.iterdir()):
                    (made / file.name).write_bytes(file.read_bytes())


def check_packable(network: TrainedNetwork) -> None:
    """InputError if a package of this network cannot be written: packages are missing, or the zoo has no word for it."""
    import_onnx(FLAG)
    _runtime()
    _spec()
    if network.config.sampling.normalization == LOCAL:
        raise InputError(f"{FLAG}: must be yseg for a network of sampling.normalization={LOCAL}, as bioimage.io knows no"
                         " normalisation by what lies around")


def is_package(path: Path) -> bool:
    """Whether this is a folder or .zip file that `write_package` wrote, to which nothing was added."""
    try:
        if path.is_dir():
            names, rdf = {entry.name for entry in path.iterdir()}, (path / RDF).read_text(encoding="utf-8")
        else:
            with zipfile.ZipFile(path) as archive:
                names, rdf = {*archive.namelist()}, archive.read(RDF).decode()
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return False
    return names <= {*FILES, *PYTORCH_FILES} and re.search(r"^  yseg:$", rdf, re.MULTILINE) is not None


def sizes(model: Model) -> tuple[int, int, int]:
    """(smallest size, step, halo) of a tile, in working pixels: sizes are smallest + n step, and the halo is cut off."""
    network = segmentation_network(model)
    return 2 * network.halo + network.multiple, network.multiple, network.halo


def _fill(folder, network, description):
    """The files of the package."""
    import_onnx(FLAG)
    smallest, step, _ = sizes(network.config.model)
    example = make_example(network, max(smallest, smallest + (_SIDE - smallest) // step * step))
    torch, model, variables = import_torch(), network.config.model, network.variables[network.statistics]
    normalised = z_scored(example.image, network.config.sampling.normalization)[None]
    content = onnx_model(model, variables, FLAG).SerializeToString()
    session = _runtime().InferenceSession(content, providers=["CPUExecutionProvider"])
    _check_same(WEIGHTS, session.run(None, {INPUT: normalised})[0][0], example.probabilities)
    (folder / WEIGHTS).write_bytes(content)
    if torch:
        same = pytorch_network(model, variables)
        with torch.no_grad():
            _check_same(PYTORCH, same(torch.from_numpy(normalised))[0].numpy(), example.probabilities)
        torch.save(same.state_dict(), folder / PYTORCH)
        (folder / UNET).write_bytes(ARCHITECTURE.read_bytes())
    np.save(folder / TEST_INPUT, example.image[None])
    np.save(folder / TEST_OUTPUT, example.probabilities[None])
    picture = cover(example, description["inference"]["threshold"])
    Image.fromarray(picture).quantize(256).save(folder / COVER, optimize=True)
    citations = _citations(network.provenance)
    (folder / PAGE).write_text(page(network, description, sizes=sizes(network.config.model), example_of=example.of,
                                    citations=citations, pytorch=torch.__version__ if torch else ""), encoding="utf-8")
    _write_rdf(folder, network, description, citations=citations, torch=torch)


def _check_same(file, found, expected):
    """RuntimeError unless the probabilities that were computed with a file are those of yseg."""
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:
        raise RuntimeError(f"{file}: its probabilities differ from yseg's by {difference:g}; must be at most {TOLERANCE:g}: a"
                           " mistake of yseg's")


# --- rdf.yaml ---


def _write_rdf(folder, network, description, *, citations, torch):
    """Write the description of the package in a folder that has its other files; the specification's own library checks it."""
    spec, config = _spec(), network.config
    cite = [{"text": text, **_link(text)} for text in citations if _link(text)]
    content = {
        "type": "model", "format_version": spec.latest_version,
        "name": _name(config.name), "description": _summary(network), "version": "0.1.0",
        "documentation": {"source": PAGE}, "covers": [{"source": COVER}], "cite": cite, "tags": _tags(network),
        "inputs": [_input(config)], "outputs": [_output(config)],
        "weights": _weights(config.model, torch),
        "config": {"yseg": json.loads(json.dumps(description))},  # lists for tuples, as YAML has
    }
    known = {link["url"]: None for link in cite if "url" in link}  # no page is asked for
    with spec.library.ValidationContext(root=folder, known_files=known, log_warnings=False) as context:
        made = spec.library.build_description(content, context=context)
    if not isinstance(made, spec.model):
        raise RuntimeError(f"{RDF}: {made.get_reason()}: a mistake of yseg's")
    spec.library.save_bioimageio_yaml_only(made, folder / RDF)


def _weights(model, torch):
    """The networks of the package. ONNX's is the first, from which the zoo takes the others to come."""
    found: dict[str, Any] = {"onnx": {"source": WEIGHTS, "opset_version": OPSET}}
    if torch:
        found["pytorch_state_dict"] = {
            "source": PYTORCH, "parent": "onnx", "pytorch_version": torch.__version__.partition("+")[0],
            "architecture": {"source": UNET, "callable": CALLABLE, "kwargs": arguments(model)}}
    return found


def _input(config):
    """The input tensor, and how it is normalised: by all that a program is given at once, which with yseg is the volume."""
    around = config.model.sections // 2
    names = [f"section{offset:+d}" if offset else "section" for offset in range(-around, around + 1)]
    smallest, step, _ = sizes(config.model)
    axes = ["y", "x"] if config.sampling.normalization == SECTION else ["batch", "channel", "y", "x"]
    return {
        "id": INPUT, "description": "grey levels of a section" + " and those around it" * bool(around),
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": names},
                 *({**axis, "size": {"min": smallest, "step": step}, "concatenable": True} for axis in _space(config))],
        "data": {"type": "float32"}, "pad": {"mode": "reflect"}, "test_tensor": {"source": TEST_INPUT},
        "preprocessing": [{"id": "zero_mean_unit_variance", "kwargs": {"axes": axes}}]}


def _output(config):
    """The output tensor; what lies within the halo of its border depends on what lies beyond it."""
    classes, (_, _, halo) = config.model.classes, sizes(config.model)
    names = ["foreground"] if classes == 2 else [f"class {index}" for index in range(1, classes)]
    return {
        "id": OUTPUT, "description": "probability of each class",
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": ["background", *names]},
                 *({**axis, "size": {"tensor_id": INPUT, "axis_id": axis["id"]}, "halo": halo} for axis in _space(config))],
        "data": {"type": "float32", "range": [0.0, 1.0]}, "test_tensor": {"source": TEST_OUTPUT}}


def _space(config):
    return [{"type": "space", "id": name, "unit": "nanometer", "scale": config.sampling.working_pixel_size_nm} for name in "yx"]


def _name(name):
    """A name of the letters that the zoo allows."""
    return " ".join(re.sub(r"[^A-Za-z0-9_+\- ()]", " ", f"yseg {name}").split())[:64].strip()


def _summary(network):
    provenance = network.provenance
    return (f"A 2-D U-Net for sections of volume electron microscopy at {network.config.sampling.working_pixel_size_nm:g} nm a"
            f" pixel, trained by yseg's method {provenance.get('method')}; it gives the probabilities of"
            f" {network.config.model.classes} classes.")


def _tags(network):
    seen = " ".join(known["description"] for known in network.provenance.get("data_sets", {}).values() if known)
    return ["electron-microscopy", "2d", "semantic-segmentation", "unet", "domain-adaptation", "yseg",
            *(["mitochondria"] if "mitochondria" in seen else [])]


def _citations(provenance):
    """The paper, and the data sets of the catalog that it was trained on."""
    return list(dict.fromkeys([PAPER, *(known["citation"] for known in provenance.get("data_sets", {}).values() if known)]))


def _link(citation):
    """{"doi": ...} or {"url": ...} of a citation; empty if it has none."""
    doi, url = re.search(r"\b10\.\d{4,}/\S*\w", citation), re.search(r"https?://\S*[\w/]", citation)
    return {"doi": doi[0]} if doi else {"url": url[0]} if url else {}


# --- What is imported on use ---


def _runtime() -> ModuleType:
    """onnxruntime. Newer ones send what they run to their makers, unless this stops it before they are imported."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{FLAG}: needs onnxruntime, {EXTRA}") from error
    return onnxruntime


class _Spec(NamedTuple):
    """bioimageio.spec: the library, its class of descriptions of models, and the version of the specification."""

    library: Any
    model: Any
    latest_version: str


def _spec() -> _Spec:
    try:
        import bioimageio.spec as library
        from bioimageio.spec.model.v0_5 import ModelDescr
    except ImportError as error:
        raise InputError(f"{FLAG}: needs bioimageio.spec, {EXTRA}") from error
    return _Spec(library, ModelDescr, ModelDescr.implemented_format_version)
