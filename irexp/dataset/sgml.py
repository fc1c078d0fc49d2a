"""TREC's SGML: elements one after the other without a root, in whose text a `<` may stand for itself."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from irexp.dataset.collection import DataError
from irexp.dataset.text_file import Line, Record, lines_of

#: A tag, with values for its attributes; `a < b`, `<3` and `<joe@example.org>` are text.
_TAG = re.compile(
    r"""<!--.*?-->|<[!?][^<>]*>|</?[a-z][\w.:-]*(?:\s+[\w.:-]+\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+))*\s*/?>""",
    re.IGNORECASE | re.DOTALL,
)

#: Characters before an element that are held until it is known that they are tags.
_MOST_OUTSIDE = 2**16


def elements(path: str, name: str) -> Iterator[Record]:
    """Stream the elements of a name, each from its first tag to its last, however they are laid out in lines.

    Args:
        path: the file.
        name: a regular expression for the name.

    Raises:
        DataError: for text outside of any element, one that does not end, and one that begins within another.
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
                begun, outside = line._replace(offset=line.offset + len(line.text[:end].encode())), ""
            elif not begun:
                raise DataError(f"{line.place}: an element ends that has not begun")
            else:
                text = "".join([*inside, before, match[0]])
                yield Record(text, begun.place, begun.offset, begun.offset + len(text.encode()))
                inside, begun, end = [], None, match.end()
        if begun:
            inside.append(line.text[end:])
        else:
            outside += line.text[end:]
            if len(outside) > _MOST_OUTSIDE:
                _check_outside(outside, line.place)
                outside = ""
    if begun:
        raise DataError(f"{begun.place}: the element that begins here has no end; is the file cut off?")
    _check_outside(outside, f"{path}, at its end")


def _check_outside(text: str, place: str) -> None:
    if found := _TAG.sub(" ", text).split():
        raise DataError(f"{place}: text outside of any element: {' '.join(found)[:60]!r}")


def contents(text: str, name: str) -> list[str]:
    """What stands between the tags of a name, each time it occurs."""
    return re.findall(rf"<{name}(?:\s[^<>]*)?>(.*?)</{name}\s*>", text, re.IGNORECASE | re.DOTALL)


def following(text: str, name: str) -> str | None:
    """What follows the first tag of a name, to its closing tag or, where that is missing, to the next tag."""
    begin = re.search(rf"<(?:{name})(?:\s[^<>]*)?>", text, re.IGNORECASE)
    if begin is None:
        return None
    rest = text[begin.end() :]
    end = re.search(rf"</(?:{name})\s*>", rest, re.IGNORECASE) or _TAG.search(rest)
    return rest[: end.start()] if end else rest


def untagged(text: str) -> str:
    """A text without tags, with entities as characters."""
    return html.unescape(_TAG.sub(" ", text))


def plain(text: str) -> str:
    """The same with single blanks."""
    return " ".join(untagged(text).split())


def without(text: str, name: str) -> str:
    """A text without the elements of a name."""
    return re.sub(rf"<{name}(?:\s[^<>]*)?>.*?</{name}\s*>", " ", text, flags=re.IGNORECASE | re.DOTALL)
