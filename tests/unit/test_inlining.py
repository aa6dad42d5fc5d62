"""Pages made by forms are what they would be if each were inlined by itself."""

from __future__ import annotations

import css_inline
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape

from approval_mail.rendering.inlining import Inliner

SHEET = "p { color: red } .note { margin: 0 } td:empty { width: 9px } h1 + p { color: blue } a[href^=x] { color: red }"
BODY = "<h1>{0}</h1>\n<p>{1}</p><!-- {0} --><table><tr><td>{2}</td></tr></table><pre>x{1}</pre> {2}"
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def page(*words: str, body: str = BODY, sheet: str = SHEET) -> str:
    head = f"<head><title>{words[0]}</title><style>{sheet}</style></head>"
    return f"<!DOCTYPE html><html>{head}<body>{body.format(*words)}</body></html>"


def inlined_by_itself(markup: str) -> str:
    return css_inline.CSSInliner(keep_at_rules=True).inline(markup)


@given(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=3, max_size=6))
def test_whatever_the_words_a_page_is_inlined_as_if_by_itself(rows: list[tuple[str, ...]]) -> None:
    inliner = Inliner()
    for words in rows:
        made = page(*(str(escape(word)) for word in words))
        assert inliner.inline(made) == inlined_by_itself(made)


@pytest.mark.parametrize(
    "body",
    [
        '<p title="{0} > 1">{1}</p>{2}',
        "<p title='{0}'>{1}</p>{2}",
        "<p>{1}<p>{2}<table>{0}<tr><td>{1}</table>",
        "<p>1 < {0}</p><p>{1}</p>{2}",
        "<p>{0}<textarea>\n{1}</textarea><select><option>{2}</select></p>",
        "<STYLE>p {{ margin: 1px }}</STYLE><p>{0}</p>{1}",
        "<p>{0}</p><style>.{1} {{ margin: 1px }}</style><p>{2}</p>",
        "<p>{0}</p><script>{1}</script>{2}",
        "<!--[if mso]><p>{0}</p><![endif]-->{1}",
        "\ue0000\ue001 <p>{0} \ue001</p>",
        '<p title="asked by -> {0} <-">{1}</p>{2}',
        "<p><!-- > {0} < --> {1}</p><xmp>{2}</xmp>",
        "<SCRIPT>{0}</SCRIPT><noscript>{1}</noscript><iframe>{2}</iframe>",
        "{0}",
        "",
    ],
)
def test_whatever_the_template_a_page_is_inlined_as_if_by_itself(body: str) -> None:
    inliner = Inliner()
    for number in range(4):
        # The later ones try to get out of where they stand.
        hostile = """ " style="color: red" onclick='x' <b> & """ * (number > 1)
        made = page(*(str(escape(f"{word}{number}{hostile}")) for word in "abc"), body=body)
        assert inliner.inline(made) == inlined_by_itself(made)


def test_a_page_without_a_style_sheet_or_without_tags_passes() -> None:
    inliner = Inliner()
    for made in ("<p>a</p>", "<p>b</p>", "a", "b", "", ""):
        assert inliner.inline(made) == inlined_by_itself(made)


def test_an_edited_style_sheet_takes_effect() -> None:
    inliner = Inliner()
    for sheet in ("p { color: red }", "p { color: green }"):
        for number in range(3):
            assert f'style="{sheet[4:-2]};"' in inliner.inline(page("a", f"b{number}", "c", sheet=sheet))


def test_every_page_keeps_links_of_its_own() -> None:
    inliner = Inliner()
    body = '<p>{0}</p><a href="{1}">{1}</a> <a href="{2}">no</a>'
    for number in range(4):
        links = (f"https://a.example/approve?t={number}&x=1", f"https://a.example/reject?t={number}&x=1")
        made = page("asked", *(str(escape(link)) for link in links), body=body)
        inlined = inliner.inline(made, links=links)
        assert inlined == inlined_by_itself(made)
        assert all(inlined.count(f't={number}&amp;x=1"') == 2 for _ in links)


def test_a_template_that_only_some_words_break_goes_on_for_all_others() -> None:
    inliner = Inliner()
    for number in range(4):
        made = page("a", f"b{number}", "c", body="<p title=>{0}<b>{1}</p>")
        assert inliner.inline(made) == inlined_by_itself(made)
        made = page("a", f"b{number}", "c", body="<p title={1}>{0}</p>")
        assert inliner.inline(made) == inlined_by_itself(made)
        made = page("a", f"b{number}", "c", body='<p title=">{1}<">{0}</p><p title=>{1}</p>')
        assert inliner.inline(made) == inlined_by_itself(made)


def test_a_style_that_selects_by_link_holds_for_every_page() -> None:
    inliner = Inliner()
    for number in range(4):
        link = f"https://a.example/approve?t={number}"
        made = page("asked", link, "c", body="<p>{0}</p><a href='{1}'>yes</a>", sheet="a[href^=https] { color: red }")
        assert inliner.inline(made, links=(link,)) == inlined_by_itself(made)


def test_links_that_are_not_there_change_nothing() -> None:
    inliner = Inliner()
    for number in range(3):
        made = page("a", str(number), "c")
        assert inliner.inline(made, links=("", "")) == inlined_by_itself(made)


def test_more_structures_than_are_remembered_do_not_pile_up() -> None:
    inliner = Inliner()
    for number in range(1_000):
        inliner.inline(page("a", "b", "c", body=f"<p class=c{number}>{{0}}</p>"))
    assert len(inliner._forms) <= 128
