"""A browser window, driven: what a reader sees and does on the page at `/`."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

#: Seconds that the page may take for anything, on a busy machine.
PATIENCE = 40.0

#: Where pictures for the documentation go when SCREENSHOTS=1 asks for new ones.
IMAGES = Path(__file__).parents[2] / "docs" / "tutorial" / "images"

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--window-size=1320,840",
    "--lang=en-GB",
)


class Window:
    """One headless Chromium with one window."""

    def __init__(self, chromium: str, driver: str, profile: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for option in (*OPTIONS, f"--user-data-dir={profile}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.set_page_load_timeout(PATIENCE)
        self.driver.set_script_timeout(PATIENCE)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.driver.quit()

    # -- looking

    def wait(self, condition: Any, what: str) -> Any:
        """Call `condition` until it is true; what it returned."""

        def so(_: Any) -> Any:
            try:
                return condition()
            except StaleElementReferenceException:
                return False

        return WebDriverWait(self.driver, PATIENCE, 0.05).until(so, what)

    def all(self, selector: str) -> list[Any]:
        """The elements that are shown."""
        found = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return [element for element in found if element.is_displayed()]

    def one(self, selector: str) -> Any:
        """The first such element, when it is shown."""
        return self.wait(lambda: next(iter(self.all(selector)), None), f"{selector} is shown")

    def live(self) -> str:
        """What the page says of its connection: connecting, live or lost."""
        return str(self.one("#live").get_attribute("data-state"))

    def wait_for_live(self, state: str) -> None:
        self.wait(lambda: self.live() == state, f"the connection is {state}")

    def notes(self) -> list[str]:
        return [element.text for element in self.all("#notes-list .text")]

    def wait_for_notes(self, *texts: str) -> None:
        self.wait(lambda: self.notes() == list(texts), f"the notes are {texts}")

    def script(self, source: str, *arguments: Any) -> Any:
        return self.driver.execute_script(source, *arguments)

    def picture(self, name: str) -> None:
        """Take a picture for the documentation, when new ones are asked for."""
        if os.environ.get("SCREENSHOTS"):
            IMAGES.mkdir(exist_ok=True)
            self.driver.save_screenshot(str(IMAGES / f"{name}.png"))

    def focused(self) -> Any:
        """The element that has the keyboard's focus."""
        return self.driver.switch_to.active_element

    def overhang(self) -> int:
        """By how many pixels the page is wider than the window."""
        source = "return document.documentElement.scrollWidth - window.innerWidth"
        return int(self.script(source))

    def complaints(self) -> list[str]:
        """What the browser's console says is wrong."""
        log: list[dict[str, str]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]

    # -- doing

    def open(self, address: str) -> None:
        self.driver.get(address)
        self.wait_for_live("live")

    @contextlib.contextmanager
    def as_wide_as(self, pixels: int) -> Iterator[None]:
        """Within it the window is that of a device of this width."""
        device = {"width": pixels, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def sign_in(self, link: str, name: str, picture: str = "") -> None:
        """Open the link to sign in with, and give a name."""
        self.open(link)
        self.one("#name").send_keys(name)
        if picture:
            self.picture(picture)
        self.one("#sign-in-form .row button:last-child").click()
        self.wait(lambda: name in self.one("#who").text, f"{name} has signed in")

    def ensure_signed_in(self, link: Callable[[], str]) -> None:
        """Sign in unless this window's reader has done so."""
        if not self.one("#who").find_elements(By.CLASS_NAME, "avatar"):
            self.sign_in(link(), "Ada")

    def search(self, text: str) -> list[str]:
        """Search; the titles of the hits."""
        field = self.one("#query")
        field.clear()
        field.send_keys(text + "\n")
        self.wait(lambda: text in self.one("#results h1").text, "the results are shown")
        return [element.text for element in self.all(".hits a")]

    def read(self, path: str) -> None:
        self.script("location.hash = '#/read/' + arguments[0]", path)
        self.one("#frame")
        self.wait(lambda: path in self.frame_address(), f"the frame shows {path}")

    def frame_address(self) -> str:
        return self.in_frame("return location.href")

    def in_frame(self, source: str, *arguments: Any) -> Any:
        """Run a script in the reader's frame."""
        self.driver.switch_to.frame(self.driver.find_element(By.ID, "frame"))
        try:
            return self.script(source, *arguments)
        finally:
            self.driver.switch_to.default_content()

    def click_in_frame(self, selector: str) -> None:
        """Click what the reader's page has, once it is there."""
        source = """
            if (document.readyState !== "complete") return false;
            const found = document.querySelector(arguments[0]);
            if (found) found.click();
            return Boolean(found);
        """
        self.wait(lambda: self.in_frame(source, selector), f"the page has {selector}")

    def write_note(self, text: str) -> None:
        self.one("#compose-text").send_keys(text)
        self.one("#compose button").click()
