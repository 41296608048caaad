"""A hostile page in the library, in a real browser: it may run, and do nothing as the reader."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.site import Site
from tests.browser.windows import Window

pytestmark = pytest.mark.browser

EVIL = """<!doctype html><title>Evil</title><h1>Evil</h1><p id="ran">no</p>
<script>
document.getElementById("ran").textContent = "yes";
const tried = {};
function attempt(name, work) {
  try { tried[name] = String(work()); }
  catch (problem) { tried[name] = "refused: " + problem.name; }
}
attempt("cookie", () => document.cookie);
attempt("storage", () => localStorage.length);
attempt("parent", () => parent.document.body.innerHTML);
attempt("top", () => { top.location.hash = "#/search/stolen"; return "moved"; });
attempt("popup", () => window.open("/", "_blank"));
async function act(name, work) {
  try { const answer = await work(); tried[name] = String(answer.status); }
  catch (problem) { tried[name] = "refused"; }
}
const note = { method: "POST", credentials: "include",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ page: "evil/evil.html", text: "stolen" }) };
Promise.all([
  act("session", () => fetch("/dataserver2/session", { credentials: "include" })),
  act("write", () => fetch("/dataserver2/notes", note)),
  act("blind", () => fetch("/dataserver2/notes", { ...note, mode: "no-cors" })),
]).then(() => { window.tried = tried; });
</script>"""

MARKUP = '<img src=x onerror="document.title=\'stolen\'"><script>document.title="stolen"</script>'


@pytest.fixture(scope="module")
def evil_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("evil")
    unit: Path = folder / "library" / "evil"
    unit.mkdir(parents=True)
    (unit / "evil.html").write_text(EVIL)
    hidden = MARKUP.replace("<", "&lt;")
    (unit / "text.html").write_text(f"<title>{hidden}</title><h1>{hidden}</h1><p>ocelot {hidden}")
    site = Site(folder, folder / "library")
    try:
        site.start()
        site.wait_until_indexed()
        yield site
    finally:
        site.stop()


def test_a_hostile_page_can_do_nothing_as_its_reader(
    evil_site: Site, two_windows: tuple[Window, Window]
) -> None:
    window = two_windows[0]
    window.open(evil_site.url)
    window.ensure_signed_in(evil_site.sign_in_link)
    window.read("evil/evil.html")
    in_frame = window.wait(lambda: window.in_frame("return window.tried"), "the page has tried")
    check(in_frame)
    assert window.in_frame("return document.getElementById('ran').textContent") == "yes"
    assert "stolen" not in window.driver.current_url
    assert evil_site.get("/dataserver2/notes?page=evil/evil.html")["total"] == 0
    # Opened by itself, in a window of its own, it is in the same sandbox.
    window.driver.get(evil_site.url + "/library/evil/evil.html")
    check(window.wait(lambda: window.script("return window.tried"), "the page has tried"))
    assert evil_site.get("/dataserver2/notes?page=evil/evil.html")["total"] == 0


def check(tried: dict[str, str]) -> None:
    assert tried["cookie"].startswith("refused")
    assert tried["storage"].startswith("refused")
    assert tried["session"] == "refused"
    assert tried["write"] == "refused"
    assert tried["popup"] in ("null", "refused: SecurityError")


def test_markup_in_notes_titles_and_snippets_stays_text(
    evil_site: Site, two_windows: tuple[Window, Window]
) -> None:
    window = two_windows[0]
    window.open(evil_site.url)
    window.ensure_signed_in(evil_site.sign_in_link)
    assert window.search("ocelot") == [MARKUP]
    window.read("evil/text.html")
    window.write_note(MARKUP)
    window.wait_for_notes(MARKUP)
    assert window.driver.title == f"{MARKUP} \N{EN DASH} Library"
    assert not window.all("#notes-list img, #notes-list script, #results img")
