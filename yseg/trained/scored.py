"""Which volume an evaluation scores, and which part of it."""

from typing import Any

from yseg.config import Domain, Experiment, InputError
from yseg.data.box import Box
from yseg.data.domain import Volume, given_domain, open_domain, open_own_domain
from yseg.runs.moved import check_there


def open_to_score(config: Experiment, domain: str, **given: Any) -> tuple[Domain, Volume]:
    """The `yseg.config.Domain` to score, and its opened Volume, with labels.

    Args:
      config: of the network.
      domain: without an image: "source" or "target" of the config.
      given: image, labels and the rest of what `yseg.data.domain.given_domain` takes.

    Raises:
      InputError: what is asked does not fit together, or a volume cannot be opened.
    """
    if given["image"]:
        known = given_domain(config, **given)
        if not known.labels:
            raise InputError(f"--labels is missing: must be the label volume of --image={given['image']}")
        return known, open_domain(known, config.sampling, "-", with_labels=True)
    for name, value in given.items():
        if value is not None:
            raise InputError(f"--{name}={value}: must come with --image")
    if domain not in ("source", "target"):
        raise InputError(f"--domain={domain}: must be one of source, target")
    known = getattr(config, domain)
    if not known.image:
        raise InputError("--image is missing: must be the volume to score, as a released model has none of its own")
    check_there(known, domain)
    return known, open_own_domain(config, domain, with_labels=True)


def kept_box(volume: Volume, domain: str, known: Domain) -> Box:
    """The Box of a run's own volume that was kept to be scored, in voxels of its files; InputError if there is none."""
    box = (volume.split.validation if domain == "source" else volume.split.test).moved(volume.offset)
    if box.is_empty:
        knob = "validation_fraction" if domain == "source" else "test_fraction"
        raise InputError(f"{domain}.{knob}={getattr(known, knob)}: the run keeps nothing to score; give --region")
    return box
