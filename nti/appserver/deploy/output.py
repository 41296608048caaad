"""Where rendered files go: standard output, or a folder in which nothing is replaced unasked.

Nothing here waits for the network or switches.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from nti.appserver.errors import ConfigurationError


def as_text(files: Mapping[str, str]) -> str:
    """All files as one text; each is announced where there are several."""
    if len(files) == 1:
        return next(iter(files.values()))
    return "\n".join(f"# ---- {name}\n{text}" for name, text in files.items())


def write(files: Mapping[str, str], folder: Path, *, replace: bool = False) -> list[Path]:
    """Write the files into `folder`, all of them or, where one is there already, none.

    :param replace: write over files that are there. A file that holds the same
        text already is left alone and is no obstacle.
    :return: the paths, in order.
    :raises ConfigurationError: the folder is not there or may not be written, or a
        file is there and differs.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is not a folder", mend=f"mkdir -p {folder}")
    paths = [folder / name for name in files]
    differing = [
        str(path) for path, text in zip(paths, files.values(), strict=True) if _differs(path, text)
    ]
    if differing and not replace:
        raise ConfigurationError(
            f"there already and different: {', '.join(differing)}",
            "a new file",
            "give --force to replace, or another --output",
        )
    for path, text in zip(paths, files.values(), strict=True):
        _write_whole(path, text)
    return paths


def _differs(path: Path, text: str) -> bool:
    try:
        return path.read_text("utf-8") != text
    except FileNotFoundError:
        return path.is_symlink()
    except (OSError, UnicodeDecodeError):
        return True


def _write_whole(path: Path, text: str) -> None:
    """Put the text beside the file and rename it: a reader sees the old text or the new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, "utf-8")
        beside.replace(path)
    except OSError as problem:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise ConfigurationError(f"{path} cannot be written: {problem.strerror}") from problem
