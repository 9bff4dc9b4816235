"""A page of HTML that tells of a run: one file, with everything inside it, which reads nothing from elsewhere.

What it says is made of a few kinds of blocks, all of text and of pictures as data URIs (see `yseg.report.embedded`). The layout
is page.html, beside this module.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined

from yseg.report.embedded import thinned

PRINTED = 4  # sections of a slider that are printed


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph. It may be a warning, which is set apart."""

    kind: ClassVar[str] = "text"
    text: str
    warning: bool = False


@dataclasses.dataclass(frozen=True)
class Listing:
    """Paragraphs, one below the other, each with a mark."""

    kind: ClassVar[str] = "listing"
    items: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Link:
    """A cell of a table that leads to another file; `target` is relative to the page."""

    text: str
    target: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of texts; the first column names the rows.

    With a `summary` it is folded away under that line, and so on paper, unless it is `printed`.
    """

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Link]]
    summary: str = ""
    printed: bool = False


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture; source: data URI; alt: what it shows, for who does not see it."""

    kind: ClassVar[str] = "picture"
    source: str
    alt: str
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Frame:
    """A section of a slider: its name, and data URIs of the grey levels and of what lies on them, transparent elsewhere."""

    name: str
    image: str
    overlay: str


@dataclasses.dataclass(frozen=True)
class Slider:
    """Sections of a volume, of which one is seen at a time.

    size: width and height of the pictures, in pixels; legend: from a name to its colour, "#rrggbb".
    scale: of a scale bar, its share of the width and its text; None without.
    """

    kind: ClassVar[str] = "slider"
    frames: Sequence[Frame]
    size: tuple[int, int]
    legend: Mapping[str, str]
    alt: str
    caption: str = ""
    scale: tuple[float, str] | None = None

    @property
    def first(self) -> int:
        """Which frame is seen at first: that in the middle."""
        return len(self.frames) // 2

    @property
    def printed(self) -> list[int]:
        """Which frames are printed: a few, evenly spaced."""
        return thinned(len(self.frames), min(PRINTED, len(self.frames)))


Block = Text | Listing | Table | Picture | Slider


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page; name: of its anchor, another for each."""

    name: str
    title: str
    blocks: Sequence[Block]


@dataclasses.dataclass(frozen=True)
class Page:
    """All of it; a section without blocks is left out."""

    title: str
    subtitle: str
    sections: Sequence[Section]


def render(page: Page) -> str:
    """The HTML of a page. All text in it is escaped, and the page itself forbids to load anything."""
    environment = Environment(loader=PackageLoader("yseg.report", "."), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    sections = [section for section in page.sections if section.blocks]
    return environment.get_template("page.html").render(page=page, sections=sections)
