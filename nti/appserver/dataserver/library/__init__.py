"""The library: a folder of content units, served, indexed and searched.

`files` opens what is asked for and nothing outside; `html`, `words` and
`snippets` are pure functions on text; `index` is what the database keeps and
`indexing` brings it up to date; `catalogue`, `bodies`, `views`, `search` and
`markup` serve it all under /library.
"""

from typing import Any


def includeme(config: Any) -> None:
    """Add the routes; a search's comes first, for a unit's path may be anything."""
    config.add_route("search", "/library{unit:(?:/.+?)?}/Search/{query:.*}")
    config.add_route("library", "/library")
    config.add_route("content", "/library/{path:.*}")
    config.scan("nti.appserver.dataserver.library.views")
    config.scan("nti.appserver.dataserver.library.search")
