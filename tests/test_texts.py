"""Every text that a page shows can be translated, and the page says which language it is in."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.conf import settings
from django.template.base import Lexer, TokenType
from django.template.loader import render_to_string
from django.utils import translation

pytestmark = pytest.mark.once
TEMPLATES = sorted(Path(settings.BASE_DIR, "templates").rglob("*.html"))
SCRIPTS = sorted(Path(settings.BASE_DIR, "static").glob("*.js"))
PRODUCT = "API Key Console"
READ_OUT = {"alt", "aria-description", "aria-label", "label", "placeholder", "title", "value"}
WORD = r"[^\W\d_]"
# What a tag shows as it stands: the alternative of an empty value, or a value handed to another template.
LITERAL = re.compile(rf"""(?:\|(?:default|default_if_none|join|pluralize|yesno):|\w=)(["'])[^"']*{WORD}""")
# What a script shows as it stands: a sentence, or anything put where it is read.
SPOKEN = re.compile(r"""["'`][A-Z][^"'`\n]* |(?:textContent|innerText|title|ariaLabel) = ["'`]""")


class Shown(HTMLParser):
    """What a reader sees or hears of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.texts.append(data.replace(PRODUCT, ""))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        unseen = tag == "button" or dict(attrs).get("type") == "hidden"
        for name, value in attrs:
            if (
                value
                and not (unseen and name == "value")
                and (name in READ_OUT or (name.startswith("data-") and " " in value))
            ):
                self.texts.append(value)


def untranslated(template: str) -> Iterator[str]:
    """The texts of a template that no translation can replace."""
    page, until = Shown(), ""
    for token in Lexer(template).tokenize():
        tag = token.contents.split(" ")[0] if token.token_type is TokenType.BLOCK else ""
        if until:
            until = "" if tag == until else until
        elif tag in {"blocktranslate", "blocktrans", "comment"}:
            until = f"end{tag}"
        elif token.token_type is TokenType.TEXT:
            page.feed(token.contents)
        elif LITERAL.search(token.contents):
            yield token.contents
    page.close()
    yield from (text.strip() for text in page.texts if re.search(WORD, text))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_every_text_of_a_template_can_be_translated(template: Path) -> None:
    assert [*untranslated(template.read_text())] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_has_its_texts_from_the_page(script: Path) -> None:
    code = re.sub(r"//.*", "", script.read_text())
    assert SPOKEN.findall(code) == []


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("<p>Hello</p>", ["Hello"]),
        ("<p>{{ count }} keys</p>", ["keys"]),
        ('<a title="Open it" data-said="It is open" data-id="x">1</a>', ["Open it", "It is open"]),
        ('<p class="{% if big %}big{% endif %}"{% if x %} id="y"{% endif %}>{{ day|date:"Y" }}</p>', []),
        ("{% translate 'Hello' %}{% blocktranslate %}Hello{% plural %}{{ n }}{% endblocktranslate %}", []),
        ('{{ name|default:"nobody" }}', ['name|default:"nobody"']),
        ('{{ name|default:_("nobody") }}', []),
        ('{% include "x.html" with label="Open" %}', ['include "x.html" with label="Open"']),
        ("API Key Console", []),
    ],
)
def test_what_counts_as_translated(template: str, found: list[str]) -> None:
    assert [*untranslated(template)] == found


@pytest.mark.parametrize("template", ["400.html", "404.html", "500.html", "503.html"])
@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_a_page_says_its_language_even_where_nothing_is_known_of_the_request(template: str, language: str) -> None:
    with translation.override(language):
        assert f'<html lang="{language}">' in render_to_string(template)
