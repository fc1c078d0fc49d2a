"""TREC SGML: a sequence of elements without a root, whose text may contain an unescaped `<`."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from irexp.dataset.collection import DataError
from irexp.dataset.text_file import Line, Record, lines_of

#: A tag, whose attributes all have values; `a < b`, `<3` and `<joe@example.org>` are text.
_TAG = re.compile(
    r"""<[!?][^<>]*>|</?[a-z][\w.:-]*(?:\s+[\w.:-]+\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+))*\s*/?>""",
    re.IGNORECASE | re.DOTALL,
)

#: What begins a comment or a CDATA section, and what ends it.
_SECTIONS = {"<!--": "-->", "<![CDATA[": "]]>"}
_BEGIN = re.compile("|".join(map(re.escape, _SECTIONS)))

#: Characters outside of elements that are collected before they are checked to be only tags.
_MOST_OUTSIDE = 2**16


def elements(path: str, name: str) -> Iterator[Record]:
    """Stream the elements with a name, each from its opening to its closing tag, independent of line breaks.

    Args:
        path: the file.
        name: a regular expression for the name.

    Raises:
        DataError: for text outside of any element, a missing closing tag, or an element within another.
    """
    tag = re.compile(rf"<(/?)(?:{name})(?:\s[^<>]*)?>", re.IGNORECASE)
    inside: list[str] = []
    begun: Line | None = None
    outside = ""
    for line in lines_of(path):
        end = 0
        for match in tag.finditer(line.text):
            before, end = line.text[end : match.start()], match.start()
            if not match[1]:
                if begun:
                    raise DataError(f"{line.place}: an element begins before the one at {begun.place} has ended")
                _check_outside(outside + before, line.place)
                begun, outside = line._replace(start=line.start + len(line.text[:end].encode())), ""
            elif not begun:
                raise DataError(f"{line.place}: a closing tag without an opening tag before it")
            else:
                text = "".join([*inside, before, match[0]])
                yield Record(text, begun.place, begun.start, begun.start + len(text.encode()))
                inside, begun, end = [], None, match.end()
        if begun:
            inside.append(line.text[end:])
        else:
            outside += line.text[end:]
            if len(outside) > _MOST_OUTSIDE:
                _check_outside(outside, line.place)
                outside = ""
    if begun:
        raise DataError(f"{begun.place}: the element that begins here has no closing tag; is the file truncated?")
    _check_outside(outside, f"{path}, at its end")


def _check_outside(text: str, place: str) -> None:
    if found := _TAG.sub(" ", without_sections(text)).split():
        raise DataError(f"{place}: text outside of any element: {' '.join(found)[:60]!r}")


def without_sections(text: str) -> str:
    """A text without comments, and with each CDATA section as text, in which `<` and `&` are entities.

    A section without an end is text.
    """
    if "<!" not in text:
        return text
    last = {begin: text.rfind(end) for begin, end in _SECTIONS.items()}  # no search to the end of the text for each
    parts, done = [], 0
    for match in _BEGIN.finditer(text):
        begin, start = match[0], match.end()
        if match.start() < done or start > last[begin]:
            continue
        end = text.index(_SECTIONS[begin], start)
        parts += [text[done : match.start()], " " if begin == "<!--" else html.escape(text[start:end], quote=False)]
        done = end + len(_SECTIONS[begin])
    return "".join([*parts, text[done:]])


def contents(text: str, name: str) -> list[str]:
    """The content of each element with a name."""
    return re.findall(rf"<{name}(?:\s[^<>]*)?>(.*?)</{name}\s*>", text, re.IGNORECASE | re.DOTALL)


def text_after(text: str, name: str) -> str | None:
    """The text after the first tag with a name, up to its closing tag or, if it has none, to the next tag."""
    begin = re.search(rf"<(?:{name})(?:\s[^<>]*)?>", text, re.IGNORECASE)
    if begin is None:
        return None
    rest = text[begin.end() :]
    end = re.search(rf"</(?:{name})\s*>", rest, re.IGNORECASE) or _TAG.search(rest)
    return rest[: end.start()] if end else rest


def untagged(text: str) -> str:
    """A text without tags, with entities replaced by their characters."""
    return html.unescape(_TAG.sub(" ", text))


def plain_text(text: str) -> str:
    """A text without tags and entities, with single spaces between words."""
    return " ".join(untagged(text).split())


def without_elements(text: str, name: str) -> str:
    """A text without the elements with a name."""
    return re.sub(rf"<{name}(?:\s[^<>]*)?>.*?</{name}\s*>", " ", text, flags=re.IGNORECASE | re.DOTALL)
