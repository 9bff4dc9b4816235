"""Reads pages of HTML as a browser would, with the parser of the standard library."""

import base64
from html.parser import HTMLParser

VOID = {"meta", "img", "input", "br", "link", "hr"}


class Parsed(HTMLParser):
    """The tags of a page with their attributes, its text, and whether every tag is closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open, self.wrong = [], [], [], []
        self.feed(text)
        self.close()
        self.wrong += self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self):
        """All of it, with single blanks."""
        return " ".join(" ".join(self.texts).split())

    def all(self, tag):
        """The attributes of all tags of a name."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def sections(self):
        """The names of its sections, in their order."""
        return [attributes["id"] for attributes in self.all("section")]

    def loaded(self):
        """All that a browser would load to show the page: the attributes and rules that say so."""
        named = ("src", "srcset", "data", "poster", "action", "xlink:href", "background")
        found = [attributes[name] for _, attributes in self.tags for name in named if name in attributes]
        return found + [attributes.get("href") for attributes in self.all("link")]

    def pictures(self):
        """The bytes of its pictures."""
        return [base64.b64decode(attributes["src"].partition("base64,")[2], validate=True) for attributes in self.all("img")]


def parsed(path):
    """The `Parsed` page in a file, which loads nothing, and has a text for every picture."""
    page = Parsed(path.read_text(encoding="utf-8"))
    assert not page.wrong
    assert all(name.startswith("data:") for name in page.loaded())
    assert all("alt" in attributes for attributes in page.all("img"))
    assert not any("src" in attributes for attributes in page.all("script"))
    style = path.read_text(encoding="utf-8").partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    return page
