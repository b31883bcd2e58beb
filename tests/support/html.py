"""Pages read as a browser reads them: parsed, and asked by CSS selectors."""

from bs4 import BeautifulSoup, Tag

Page = str | bytes


def parsed(page: Page) -> BeautifulSoup:
    return BeautifulSoup(page, "html.parser")


def select(page: Page, selector: str) -> list[Tag]:
    """Every element that matches."""
    return [*parsed(page).select(selector)]


def one(page: Page, selector: str) -> Tag:
    """The only element that matches."""
    found = select(page, selector)
    assert len(found) == 1, f"{len(found)} elements match {selector} in\n{page!s}"
    return found[0]


def words(element: Tag) -> str:
    """Its text, with white space as a browser shows it."""
    return " ".join(element.get_text(" ").split())


def texts(page: Page, selector: str) -> list[str]:
    return [words(element) for element in select(page, selector)]


def text(page: Page, selector: str) -> str:
    return words(one(page, selector))


def attribute(page: Page, selector: str, name: str) -> str:
    return str(one(page, selector)[name])
