"""The site: the one object in the database's root that everything else hangs from.

Its class, and finding it, live here. `get_site` is called inside of a unit of
work, and its objects are used in that unit of work alone.
"""

from persistent import Persistent

from nti.appserver.dataserver.library.index import LibraryIndex
from nti.appserver.dataserver.notes.model import NoteBook
from nti.appserver.dataserver.signin.model import Door
from nti.appserver.transactions import connection

KEY = "nti.appserver.dataserver"


class Site(Persistent):
    """What the default application keeps.

    :ivar index: the library's pages and words.
    :ivar notes: what readers wrote.
    :ivar door: who may write: sessions, and the token for the next sign-in.
    """

    def __init__(self) -> None:
        self.index = LibraryIndex()
        self.notes = NoteBook()
        self.door = Door()


def get_site(*, create: bool = False) -> Site:
    """The site of this unit of work's database.

    :param create: whether a new database gets one. Who only reads leaves it
        out, and sees an empty site there that is not stored: a GET request
        does not write.
    """
    root = connection().root()
    site: Site | None = root.get(KEY)
    if site is None:
        site = Site()
        if create:
            root[KEY] = site
    return site
