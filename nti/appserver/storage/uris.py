"""What a storage URI names: a function that opens it, and options of the database.

Nothing here waits or opens anything.
"""

import hashlib
import os
import re
from difflib import get_close_matches
from urllib.parse import parse_qsl, quote

import zodburi

from nti.appserver.errors import ConfigurationError
from nti.appserver.settings import Settings
from nti.appserver.storage import relational
from nti.appserver.storage.relational import Resolved

EXPECTED = (
    "embedded, none, or a URI that begins with file://, memory://, demo:, zeo://, zconfig://, "
    "postgresql:// or sqlite://"
)

SCHEMES = ("file", "memory", "demo", "zeo", "zconfig", *relational.POSTGRESQL, *relational.SQLITE)

#: zodburi splits at `://`; without it the error would speak of its own code.
WITH_SLASHES = tuple(name for name in SCHEMES if name != "demo")

_PASSWORD = re.compile(r"(://[^/?#@]*?:)[^/?#]*@")
_PASSWORD_OPTION = re.compile(r"([?&;](?:ssl)?password=)[^&#)]*")


def without_password(uri: str) -> str:
    """The URI as it may be shown."""
    return _PASSWORD_OPTION.sub(r"\1***", _PASSWORD.sub(r"\1***@", uri))


def resolve(uri: str, settings: Settings) -> Resolved:
    """What opens the storage that `uri` names, and the options for its database.

    :raises ConfigurationError: the URI is of no known kind, or has an option that cannot be read.
    """
    shown = f"storage is {without_password(uri)!r}"
    scheme = uri.partition(":")[0]
    if scheme in WITH_SLASHES and not uri.startswith(f"{scheme}://"):
        raise ConfigurationError(shown, f"{scheme}://")
    if scheme == "file" and os.path.isdir(uri.partition("://")[2].partition("?")[0]):
        raise ConfigurationError(f"{shown}, a folder", "a file in it, such as Data.fs")
    try:
        if scheme in (*relational.POSTGRESQL, *relational.SQLITE):
            factory, options = relational.resolve(uri, settings)
            return factory, dict(zodburi._get_dbkw(options))
        factory, options = zodburi.resolve_uri(_with_blobs(scheme, uri, settings))
        return factory, dict(options)
    except zodburi.NoResolverForScheme:
        near = get_close_matches(scheme, SCHEMES, 1)
        mend = f"did you mean {near[0]}?" if near else "mend the setting storage"
        raise ConfigurationError(shown, EXPECTED, mend) from None
    except zodburi.UnknownDatabaseKeywords as problem:
        raise ConfigurationError(
            f"{shown}: it has the unknown option {', '.join(sorted(problem.kw))}",
            "options that this storage has, or those of the database such as connection_cache_size",
        ) from None
    except (KeyError, ValueError) as problem:
        raise ConfigurationError(f"{shown}: {problem}") from problem


def _with_blobs(scheme: str, uri: str, settings: Settings) -> str:
    """The URI with a folder for blobs, which zodburi would leave without one."""
    place, _, query = uri.partition("?")
    if scheme == "file" and not {"blobstorage_dir", "read_only"} & set(dict(parse_qsl(query))):
        path = place.partition("://")[2]
        added = f"blobstorage_dir={quote(path + '.blobs')}"
    elif scheme == "zeo" and "blob_dir" not in dict(parse_qsl(query)):
        digest = hashlib.sha256(place.encode()).hexdigest()[:12]
        folder = os.path.join(os.path.abspath(settings.var), "cache", f"blobs-{digest}")
        added = f"blob_dir={quote(folder)}"
        if "blob_cache_size" not in dict(parse_qsl(query)):
            added += f"&blob_cache_size={relational.BLOB_CACHE_BYTES}"
    else:
        return uri
    return f"{place}?{query}&{added}" if query else f"{place}?{added}"
