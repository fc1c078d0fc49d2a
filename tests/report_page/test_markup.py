"""No text becomes markup."""

from __future__ import annotations

from irexp.report_page.markup import Html, element, joined, shortened


def test_text_is_escaped_in_elements_and_attributes() -> None:
    """Only what `element` and `joined` return is markup; a text that looks like it is not."""
    hostile = '<script>alert("1")</script>'
    found = element("p", hostile, element("b", "&"), title=hostile)
    escaped = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;"
    assert found == f'<p title="{escaped}">{escaped}<b>&amp;</b></p>'
    assert joined(hostile, Html("<br>")) == f"{escaped}<br>"


def test_what_no_file_can_hold_is_replaced() -> None:
    """Control characters and lone surrogates would make a page that cannot be written or read."""
    assert element("p", "a\x00b\ud800c\td").encode() == "<p>a\ufffdb\ufffdc\td</p>".encode()


def test_a_shortened_text_has_one_line_and_the_length() -> None:
    """The text is cut before it is escaped, so that no entity is cut in two."""
    assert shortened("a\nb   c", 5) == "a b c"
    assert len(shortened("word " * 100, 50)) <= 50
    assert element("p", shortened("&" * 9, 3)) == "<p>&amp;&amp;…</p>"
