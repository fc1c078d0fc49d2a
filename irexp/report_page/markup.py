"""HTML and SVG as strings that cannot hold unescaped text: whatever is not `Html` already is escaped."""

from __future__ import annotations

import html
import re

#: Elements without an end tag.
_VOID = {"meta", "br", "col"}

#: Control characters, which HTML does not allow; surrogates, which no file can hold.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class Html(str):
    """Markup; other strings are text."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: str | float | None) -> Html:
    """An element of HTML or SVG.

    Args:
        name: of the element.
        children: markup, and text, which is escaped.
        attributes: an underscore stands for a hyphen, one at the end for nothing (`class_`); None leaves it out.

    >>> element("p", "1 < 2", element("b", "!"), class_="note")
    '<p class="note">1 &lt; 2<b>!</b></p>'
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{shown}>")
    return Html(f"<{name}{shown}>{joined(*children)}</{name}>")


def joined(*parts: str) -> Html:
    """Markup and escaped text, one after the other."""
    return Html("".join(part if isinstance(part, Html) else _escaped(part) for part in parts))


def shortened(text: str, length: int) -> str:
    """A text in one line of at most `length` characters.

    >>> shortened("a long  text", 7)
    'a long…'
    """
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def _number(value: str | float) -> str:
    """An attribute as text; coordinates have at most two decimals, which keeps a page small."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _escaped(text: str) -> str:
    return html.escape(_FORBIDDEN.sub("\ufffd", text))
