"""The units of a library and their pages, as the file system shows them and the index names them.

Listing a large folder takes a while, so what was seen is used again for a few
seconds. Called in requests' units of work.
"""

import time
from typing import Any
from urllib.parse import quote

from nti.appserver.dataserver.library.files import INDEX_NAMES, Library, unit_of
from nti.appserver.dataserver.site import get_site

#: How long a listing of the folder is used again, in seconds.
FRESH_SECONDS = 5.0
#: Listing takes one part in this many of a worker's time at most.
LISTING_SHARE = 50


def address(path: str) -> str:
    """Where a page or a folder of the library is served."""
    return "/library/" + quote(path)


class Catalogue:
    """The paths of a library's pages, by unit."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self._units: dict[str, list[str]] = {}
        self._until = 0.0

    def units(self) -> dict[str, list[str]]:
        """Each unit's pages; the library's own pages belong to the unit ''."""
        began = time.monotonic()
        if began >= self._until:
            units: dict[str, list[str]] = {}
            for page in self.library.pages():
                units.setdefault(unit_of(page.path), []).append(page.path)
            self._units = units
            now = time.monotonic()
            # A folder that takes long to list is listed less often.
            self._until = now + max(FRESH_SECONDS, LISTING_SHARE * (now - began))
        return self._units

    def unit_resource(self, unit: str) -> dict[str, Any]:
        """A unit as JSON has it, without its pages."""
        pages = self.units()[unit]
        folder = address(f"{unit}/" if unit else "")
        return {
            "Class": "ContentUnit",
            "href": folder,
            "unit": unit,
            "title": self._unit_title(unit, pages),
            "pages": len(pages),
            "search": f"{folder}Search/",
        }

    def _unit_title(self, unit: str, pages: list[str]) -> str:
        """What the unit's index page calls itself, else the folder's name."""
        first = index_page(pages)
        page = get_site().index.get(first) if first else None
        if page is not None and page.title:
            return page.title
        return unit.rpartition("/")[2] or self.library.root.name

    def page_resource(self, path: str) -> dict[str, Any]:
        """A page as JSON has it; the title is the file's name until the page is indexed."""
        site = get_site()
        page = site.index.get(path)
        return {
            "Class": "Page",
            "href": address(path),
            "page": path,
            "title": page.title if page else path.rpartition("/")[2],
            "notes": site.notes.count(path),
        }


def index_page(pages: list[str]) -> str | None:
    """The page of a unit that has an index's name."""
    for name in INDEX_NAMES:
        for path in pages:
            if path.rpartition("/")[2].lower() == name:
                return path
    return None


def first_page(pages: list[str]) -> str | None:
    """The page that a unit opens with: its index, or its only page."""
    return index_page(pages) or (pages[0] if len(pages) == 1 else None)


def progress() -> dict[str, int]:
    """How far the index has come: pages indexed, and pages that there are."""
    index = get_site().index
    return {"indexed": len(index), "pages": max(index.expected, len(index))}
