"""The requests that gunicorn tests its own parser with, from its source distribution."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gunicorn
from gunicorn.config import Config

from tests import sdist


@dataclass
class Case:
    """One file: its name, its bytes, and the configuration that it is meant for."""

    name: str
    data: bytes
    cfg: Config


def cases(folder: Path) -> Iterator[Case]:
    """All cases, unpacked into `folder`; skips the test where they cannot be had."""
    source = sdist.unpacked(f"gunicorn=={gunicorn.__version__}", folder)
    for path in sorted((source / "tests" / "requests").glob("*/*.http")):
        # As gunicorn's treq.py reads them: lines are joined, escapes stand for bytes.
        data = path.read_bytes().replace(b"\n", b"").replace(b"\\r\\n", b"\r\n")
        for escape, byte in ((b"\\0", b"\0"), (b"\\n", b"\n"), (b"\\r", b"\r"), (b"\\t", b"\t")):
            data = data.replace(escape, byte)
        data = re.sub(rb"\\x([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), data)
        scope: dict[str, Any] = {"uri": str, "cfg": Config(), "__name__": path.stem}
        said = path.with_suffix(".py")
        if said.exists():
            exec(compile(said.read_text("utf-8"), str(said), "exec"), scope)
        yield Case(f"{path.parent.name}/{path.stem}", data, scope["cfg"])
