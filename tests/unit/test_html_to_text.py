from __future__ import annotations

import pytest

from approval_mail.rendering.html_to_text import html_to_text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("<div>one</div>\n  <div>two</div>", "one\ntwo"),
        ("one<br>two<br/>three", "one\ntwo\nthree"),
        ("<p>a  lot\n of   <b>space</b></p>", "a lot of space"),
        ("<p>R&amp;D &lt;x&gt; &#50;</p>", "R&D <x> 2"),
        ("<ul><li>one</li><li>two</li></ul>", "- one\n- two"),
        ("<ul><li><p>one</p></li><li><div>two</div></li></ul>", "- one\n\n- two"),
        (
            "<table><tr><th>요청자</th><td>agent-7</td></tr><tr><th>도구</th><td>x</td></tr></table>",
            "요청자  agent-7\n도구  x",
        ),
        ("<table><tr><td><table><tr><td>inner</td></tr></table></td></tr></table>", "inner"),
        ("<p>read <a href='https://example.com/x'>the log</a> now</p>", "read the log <https://example.com/x> now"),
        ("<a href='https://example.com/'>https://example.com/</a>", "https://example.com/"),
        ("<a href='mailto:a@example.com'>a@example.com</a>", "a@example.com"),
        ("<a href='#top'>up</a>", "up"),
        ("<img src='x.png' alt='Company Logo'><h1>Title</h1>body", "Company Logo\n\nTitle\n\nbody"),
        ("<pre>a\n  b\n\nc</pre>", "a\n  b\n\nc"),
        ("a<br>&nbsp; indented", "a\n  indented"),
        ("<hr>after", "after"),
    ],
)
def test_what_a_reader_sees_keeps_its_structure(html: str, text: str) -> None:
    assert html_to_text(html) == text


@pytest.mark.parametrize(
    "hidden",
    [
        "<head><title>no</title><style>p{}</style></head>",
        "<script>no()</script>",
        "<style>.no{}</style>",
        "<div style='DISPLAY : none'><p>no <div>no</div> <br> no</p></div>",
        "<span hidden>no</span>",
        "<!-- no --><!--[if mso]>no<![endif]-->",
    ],
)
def test_what_is_hidden_is_left_out_and_what_follows_is_not(hidden: str) -> None:
    assert html_to_text(f"<html>{hidden}<body>yes</body></html>") == "yes"


@pytest.mark.parametrize(
    "html", ["", " \n ", "<p> </p>", "<p>&nbsp;&zwnj;</p>", "<img src='x.png'>", "<style>p{}</style>"]
)
def test_a_page_without_anything_to_read_gives_empty_text(html: str) -> None:
    assert not html_to_text(html).strip()


@pytest.mark.parametrize("html", ["<p>one", "</div></a>one", "<a href='https://x.example/'>one", "<td>one", "one &"])
def test_unbalanced_markup_loses_no_text(html: str) -> None:
    assert "one" in html_to_text(html)
