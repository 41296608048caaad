"""Notes that readers write on pages: kept in the database, served as JSON, told live.

`model` has the persistent classes, `fields` reads what clients send, `views`
the resources under /dataserver2/notes, `live` the Socket.IO namespace.
"""

from typing import Any


def includeme(config: Any) -> None:
    """Add the notes' resources and their Socket.IO namespace."""
    from nti.appserver.dataserver.notes.live import NotesNamespace

    config.add_route("notes", "/dataserver2/notes")
    config.add_route("note", "/dataserver2/notes/{id}")
    config.scan("nti.appserver.dataserver.notes.views")
    config.add_socketio_namespace(NotesNamespace())
