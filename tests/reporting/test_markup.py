"""HTML from calls: whatever a text holds, it stays a text."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from gan_distributed.reporting.markup import Markup, tag


class Read(HTMLParser):
    """What a parser finds: elements, their attributes, texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))

    def handle_data(self, data):
        self.text += data


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]))


@given(texts, texts)
def test_texts_and_attributes_come_out_as_they_went_in(text, value):
    found = Read(tag("p", text, tag("b", text), title=value))
    assert found.elements == [("p", {"title": value}), ("b", {})]
    assert found.text == text * 2


def test_attributes_that_are_off_children_that_are_none_and_void_elements():
    assert (
        tag("input", type="range", hidden=True, checked=False, min=0, id=None) == '<input type="range" hidden min="0">'
    )
    assert (
        tag("p", None, ["a", Markup("<b>"), None], class_="x", aria_label="y") == '<p class="x" aria-label="y">a<b></p>'
    )
