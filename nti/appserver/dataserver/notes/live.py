"""Telling the readers of a page, at once, what became of its notes.

A browser watches one page at a time: it says `watch` with the page's path and
is then told `created`, `changed` and `deleted`, each with the note. Handlers
run in the worker's greenlets, each as a unit of work.
"""

from typing import Any

from nti.appserver.dataserver.library.files import PATH_LIMIT
from nti.appserver.dataserver.notes.model import Note
from nti.appserver.socketio import Namespace, emit

NAMESPACE = "/notes"


def tell(event: str, note: Note) -> None:
    """Emit an event about a note to its page's readers, after this unit of work's commit."""
    emit(event, note.resource(), to=_room_of(note.page), namespace=NAMESPACE)


def _room_of(page: str) -> str:
    return f"page:{page}"


class NotesNamespace(Namespace):
    """The namespace /notes; whoever may read the pages may watch them."""

    def __init__(self) -> None:
        super().__init__(NAMESPACE)

    def on_watch(self, sid: str, page: Any = None) -> dict[str, Any]:
        """Watch this page, and no other any more; the answer repeats its path or says why not."""
        if not isinstance(page, str) or not 0 < len(page) <= PATH_LIMIT:
            return {"error": f"watch takes the path of a page, 1 to {PATH_LIMIT} characters"}
        for room in self.rooms(sid):
            if room.startswith("page:"):
                self.leave_room(sid, room)
        self.enter_room(sid, _room_of(page))
        return {"page": page}
