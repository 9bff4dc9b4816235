"""What a volume is called in titles and in the names of files."""

import hashlib
import json
import re
from pathlib import Path

from yseg.config import Domain


def title_of(spec: str) -> str:
    """A volume's name for titles."""
    return spec.split("?")[0] if "://" in spec else Path(spec).name


def name_in_files(known: Domain) -> str:
    """A volume and its labels in the name of a file: readable, and another one for all that is scored in another way."""
    reading = [known.section_nm, known.metadata, known.channel]
    what = json.dumps([known.image, known.labels, known.foreground, known.unlabelled, known.pixel_size_nm,
                       *(reading if reading != [Domain.section_nm, Domain.metadata, Domain.channel] else []),
                       *([known.mask] if known.mask else [])])
    return f"{in_a_name(Path(title_of(known.image)).stem)[:40]}_{hashlib.sha256(what.encode()).hexdigest()[:8]}"


def in_a_name(text: str) -> str:
    """A text without what a file's name should not have."""
    return re.sub(r"[^\w.-]+", "-", text)
