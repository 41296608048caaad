"""Notes as the database keeps them.

Persistent classes live here, so a name in this file is also written into
databases. Everything runs inside of a unit of work. Ids are random: two notes
that are written at the same time do not meet in one place and so do not conflict.
"""

import secrets
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from BTrees.OOBTree import OOBTree
from persistent import Persistent

#: Notes that one page takes.
PAGE_LIMIT = 1000


class PageIsFull(Exception):
    """The page has as many notes as it takes."""


class Note(Persistent):
    """What a reader wrote on a page.

    :ivar page: the page's path in the library.
    :ivar author: the name that the reader signed in with.
    :ivar created: seconds since 1970.
    :ivar modified: seconds since 1970; as `created` until the first change.
    :ivar version: 1, and one more with each change.
    """

    def __init__(self, page: str, author: str, text: str) -> None:
        self.id = secrets.token_urlsafe(12)
        self.page = page
        self.author = author
        self.text = text
        self.created = self.modified = time.time()
        self.version = 1

    def change(self, text: str) -> None:
        """Give the note another text."""
        self.text = text
        self.modified = time.time()
        self.version += 1

    def resource(self) -> dict[str, Any]:
        """The note as JSON has it."""
        return {
            "Class": "Note",
            "MimeType": "application/vnd.nextthought.note+json",
            "href": f"/dataserver2/notes/{self.id}",
            "id": self.id,
            "page": self.page,
            "author": self.author,
            "text": self.text,
            "created": self.created,
            "modified": self.modified,
            "version": self.version,
        }


class NoteBook(Persistent):
    """All notes, by id and by page."""

    def __init__(self) -> None:
        self._notes = OOBTree()  # id -> Note
        self._pages = OOBTree()  # path -> OOBTree of (created, id) -> Note

    def get(self, id: str) -> Note | None:
        note: Note | None = self._notes.get(id)
        return note

    def count(self, page: str) -> int:
        """How many notes a page has."""
        return len(self._pages.get(page, ()))

    def on_page(self, page: str, start: int = 0, count: int = PAGE_LIMIT) -> Iterator[Note]:
        """The notes on a page in the order of their creation, `count` of them from `start` on."""
        notes = self._pages.get(page)
        return islice(notes.values(), start, start + count) if notes else iter(())

    def add(self, note: Note) -> None:
        """Take up a new note.

        :raises PageIsFull: its page has PAGE_LIMIT notes.
        """
        notes = self._pages.get(note.page)
        if notes is None:
            notes = self._pages[note.page] = OOBTree()
        if len(notes) >= PAGE_LIMIT:
            raise PageIsFull(note.page)
        notes[note.created, note.id] = note
        self._notes[note.id] = note

    def remove(self, note: Note) -> None:
        """Forget a note.

        :raises KeyError: it is not here.
        """
        del self._notes[note.id]
        notes = self._pages[note.page]
        del notes[note.created, note.id]
        if not notes:
            del self._pages[note.page]
