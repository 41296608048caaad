"""The page at `/` for those who use the keyboard, a telephone, or an address that is not there."""

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.site import Site
from tests.browser.windows import Window

pytestmark = pytest.mark.browser


@pytest.fixture
def window(site: Site, two_windows: tuple[Window, Window]) -> Window:
    window = two_windows[0]
    window.open(site.url)
    window.wait(lambda: window.all(".card"), "the first page is shown")
    return window


def test_the_keyboards_focus_stays_where_it_is(window: Window) -> None:
    """Opening a unit draws the contents anew, and the focus is not sent back to the top."""
    unit = next(unit for unit in window.all("button.unit") if unit.text.startswith("Python HOWTOs"))
    unit.send_keys(Keys.ENTER)
    window.wait(lambda: window.all(".pages"), "the unit's pages are shown")
    assert window.focused().text.startswith("Python HOWTOs")
    assert window.focused().get_attribute("aria-expanded") == "true"


def test_an_editor_is_left_alone_while_notes_arrive(
    site: Site, two_windows: tuple[Window, Window]
) -> None:
    """Another's note does not take the focus; what was changed elsewhere is not lost unseen."""
    writer, other = two_windows
    writer.open(site.url)
    writer.ensure_signed_in(site.sign_in_link)
    writer.read("library/ast.html")
    writer.write_note("one")
    writer.wait_for_notes("one")
    writer.one(".actions button").click()
    writer.focused().send_keys(" more")

    other.open(site.url)
    other.ensure_signed_in(site.sign_in_link)  # the same reader, on another device
    other.read("library/ast.html")
    other.wait_for_notes("one")
    other.one(".actions button").click()
    other.focused().send_keys(" elsewhere")
    other.one(".editor .row button:last-child").click()
    other.wait_for_notes("one elsewhere")
    other.write_note("two")
    writer.wait_for_notes("two")
    assert writer.focused().get_attribute("value") == "one more"

    save = writer.one(".editor .row button:last-child")
    save.click()
    assert "changed elsewhere" in writer.one("#notice").text
    other.wait_for_notes("one elsewhere", "two")
    save.click()
    for each in two_windows:
        each.wait_for_notes("one more", "two")
    assert writer.focused().text == "Edit"


def test_a_unit_is_a_link_and_each_place_has_a_title(window: Window) -> None:
    assert window.driver.title == "Library"
    tutorial = next(card for card in window.all(".card") if "Tutorial" in card.text)
    assert tutorial.get_attribute("href").endswith("/#/read/tutorial/")
    tutorial.click()
    window.wait(
        lambda: window.driver.title == "The Python Tutorial \N{EN DASH} Library",
        "the title is told",
    )
    assert window.driver.current_url.endswith("#/read/tutorial/index.html")
    window.driver.back()
    window.wait(lambda: window.all(".card"), "back leads to the first page at once")
    window.search("generator")
    assert window.driver.title == "“generator” \N{EN DASH} Library"


def test_what_is_not_there_is_told(window: Window) -> None:
    window.read("nothing/here.html")
    window.wait(lambda: "no such page" in window.one("#notice").text, "it is told")
    window.read("_images/win_installer.png")  # a picture, which says nothing of itself
    window.wait(lambda: not window.all("#notice"), "nothing is wrong with a picture")
    window.search("zzzqqq")
    assert "Try fewer words" in window.one("#results").text


@pytest.mark.parametrize("pixels", [360, 390, 720, 1000])
def test_the_page_fits_into_narrow_windows(window: Window, pixels: int) -> None:
    with window.as_wide_as(pixels):
        assert window.overhang() == 0
        window.search("list")
        assert window.overhang() == 0
        window.read("tutorial/classes.html")
        assert window.overhang() == 0
        assert window.one("#compose, #invite")
