"""HTML from Python calls. Every text is escaped unless it is Markup, so that nothing of a run can become HTML."""

import html
from collections.abc import Iterable


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | Iterable[str] | None
# They have no content and no end tag.
_VOID = frozenset({"meta", "link", "input", "img", "br"})


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Markup:
    """One element. children: texts, Markup, or several of these.

    attributes: `class_` is class, `aria_label` aria-label; one that is None or False is left out, one that is True
    stands without a value.
    """
    told = "".join(_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{told}>")
    return Markup(f"<{name}{told}>{joined(*children)}</{name}>")


def joined(*children: Child) -> Markup:
    """Texts and elements one after the other."""
    return Markup("".join(_escaped(child) for child in children))


def _attribute(key: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    return f" {key}" if value is True else f' {key}="{html.escape(str(value))}"'


def _escaped(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str):
        return html.escape(child)
    return "".join(_escaped(one) for one in child)
