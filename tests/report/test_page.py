"""Pages: what is said is escaped, nothing is loaded, and a slider shows one section."""

import pytest
from pages import Parsed

from yseg.report.page import Frame, Link, Listing, Page, Picture, Section, Slider, Table, Text, render

NASTY = """<script>alert("x")</script> & 'y' <img src=http://elsewhere/a.png>"""
URI = "data:image/png;base64,AAAA"


def every_block(text):
    slider = Slider([Frame(text, URI, URI)] * 7, (30, 20), {text: "#00ff00"}, text, text, (0.3, text))
    return [Text(text), Text(text, warning=True), Listing([text]), Table([text], [[text], [Link(text, text)]], text),
            Picture(URI, text, text), slider]


def test_whatever_is_said_is_text_and_no_markup():
    text = render(Page(NASTY, NASTY, [Section("one", NASTY, every_block(NASTY))]))
    page, plain = Parsed(text), Parsed(render(Page("x", "x", [Section("one", "x", every_block("x"))])))
    assert [name for name, _ in page.tags] == [name for name, _ in plain.tags]
    assert not page.wrong
    assert "alert" in page.text
    assert all(attributes["src"] == URI for attributes in page.all("img"))


def test_a_page_forbids_to_load_anything():
    page = Parsed(render(Page("x", "x", [])))
    policy = next(tag["content"] for tag in page.all("meta") if tag.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert any(tag.get("name") == "viewport" for tag in page.all("meta"))


def test_a_section_without_blocks_is_left_out():
    page = Parsed(render(Page("x", "x", [Section("empty", "Empty", []), Section("full", "Full", [Text("here")])])))
    assert page.sections == ["full"]
    assert [tag["href"] for tag in page.all("a")] == ["#full"]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 24])
def test_one_section_of_a_slider_is_seen_and_a_few_are_printed(count):
    frames = [Frame(f"section {number}", URI, URI) for number in range(count)]
    page = Parsed(render(Page("x", "x", [Section("one", "One", [Slider(frames, (30, 20), {}, "alt")])])))
    classes = [tag["class"].split() for tag in page.all("figure")]
    assert len(classes) == count
    assert sum("seen" in each for each in classes) == 1
    assert sum("printed" in each for each in classes) == min(count, 4)
    control = next(tag for tag in page.all("input") if tag["type"] == "range")
    assert (control["min"], control["max"]) == ("0", str(count - 1))
    assert "seen" in classes[int(control["value"])]
