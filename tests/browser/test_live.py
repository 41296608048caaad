"""Two windows on Python's documentation: notes live, through a crash of the server."""

import pytest

from tests.browser.site import Site
from tests.browser.windows import Window

pytestmark = pytest.mark.browser

PAGE = "tutorial/classes.html"
FIRST = "Start here, then read the section on inheritance twice."
SECOND = "Name mangling is for avoiding clashes, not for hiding things."


def test_a_note_appears_in_the_other_window_and_survives_a_crash(
    site: Site, two_windows: tuple[Window, Window]
) -> None:
    writer, other = two_windows
    writer.sign_in(site.sign_in_link(), "Ada", picture="sign-in")
    assert "token" not in writer.driver.current_url
    other.open(site.url)
    for window in two_windows:
        window.read(PAGE)
        window.wait_for_notes()

    writer.write_note(FIRST)
    writer.wait_for_notes(FIRST)
    other.wait_for_notes(FIRST)
    assert other.all("#invite")
    other.picture("other-window")

    site.kill()
    for window in two_windows:
        window.wait_for_live("lost")
    other.picture("connection-lost")

    site.start()
    for window in two_windows:
        window.wait_for_live("live")
        window.wait_for_notes(FIRST)

    writer.write_note(SECOND)
    other.wait_for_notes(FIRST, SECOND)
    writer.wait_for_notes(FIRST, SECOND)
    writer.picture("notes")


def test_a_note_is_changed_and_deleted_in_both_windows(
    site: Site, two_windows: tuple[Window, Window]
) -> None:
    writer, other = two_windows
    writer.sign_in(site.sign_in_link(), "Ada") if not writer.all(".avatar") else None
    writer.open(site.url)
    writer.ensure_signed_in(site.sign_in_link)
    other.open(site.url)
    for window in two_windows:
        window.read("library/abc.html")
    writer.write_note("one")
    other.wait_for_notes("one")
    writer.one(".actions button").click()
    editor = writer.one(".editor textarea")
    editor.clear()
    editor.send_keys("two")
    writer.one(".editor .row button:last-child").click()
    other.wait_for_notes("two")
    writer.wait_for_notes("two")
    writer.one(".actions button:last-child").click()
    other.wait_for_notes()
    writer.wait_for_notes()


def test_finding_and_reading(site: Site, two_windows: tuple[Window, Window]) -> None:
    window = two_windows[0]
    window.open(site.url)
    window.wait(lambda: len(window.all(".card")) == 15, "there is a card for each unit")
    window.picture("library")
    titles = window.search("list comprehension")
    assert "5. Data Structures" in titles
    assert window.all("mark")
    window.picture("search")
    next(link for link in window.all(".hits a") if link.text == "5. Data Structures").click()
    window.wait(lambda: "datastructures.html?frame#" in window.frame_address(), "the page is read")
    assert window.one("#units [aria-current]").text.startswith("5. Data Structures")
    # A link inside of the frame takes the whole page along.
    window.click_in_frame('a[href="controlflow.html"]')
    window.wait(
        lambda: window.driver.current_url.endswith("#/read/tutorial/controlflow.html"),
        "the page follows the frame",
    )
    window.driver.back()
    window.wait(lambda: "datastructures" in window.frame_address(), "back leads back")


def test_a_link_that_leaves_the_library_is_offered_and_not_followed(
    site: Site, two_windows: tuple[Window, Window]
) -> None:
    window = two_windows[0]
    window.open(site.url)
    window.read("about.html")
    before = window.frame_address()
    window.click_in_frame('a[href^="https://docutils"]')
    assert "docutils" in window.one("#notice a").get_attribute("href")
    assert window.frame_address() == before
