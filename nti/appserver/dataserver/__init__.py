"""The default application: a library that is read, searched and annotated, live, over ZODB.

It stands on the package's public interface alone, so it is also an example of
how to write such an application. `main` is what the setting `application`
names unless told otherwise. The rooms: `library`, `notes`, `signin`, `web`.
"""

import os
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from nti.appserver.settings import Settings, load_settings


def main(global_config: Mapping[str, str], **settings: Any) -> Any:
    """The WSGI application, as Pyramid and PasteDeploy make one.

    :param settings: `appserver.library` names the folder to serve;
        `appserver.settings` is the `Settings` that the process runs with.
    :raises ConfigurationError: the library is not a folder that can be read.
    """
    from pyramid.config import Configurator

    from nti.appserver import hub
    from nti.appserver.dataserver import background
    from nti.appserver.dataserver.library.catalogue import Catalogue

    values = settings.get("appserver.settings") or load_settings(ini=settings, environ=os.environ)
    library = open_library(values)
    with Configurator(settings=settings) as config:
        config.include("nti.appserver")
        config.registry["settings"] = values
        config.registry["library"] = library
        config.registry["catalogue"] = Catalogue(library)
        for room in ("web", "signin", "library", "notes"):
            config.include(f"nti.appserver.dataserver.{room}")
        config.add_route("service", "/dataserver2")
        config.scan("nti.appserver.dataserver.service")
        application = config.make_wsgi_app()
    if hub.is_patched():
        background.start(values, library)
    return application


def open_library(settings: Settings) -> Any:
    """The library that the setting names, or the sample that ships."""
    from nti.appserver.dataserver.library.files import Library

    return Library(settings.library or str(files("nti.appserver.dataserver") / "sample"))
