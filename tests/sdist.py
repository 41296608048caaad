"""Source distributions that tests read, fetched once into .cache/sdists and never built.

`pip download` asks the build backend for metadata, so it needs every build
requirement; the file alone is had by pip's own index and session, in a process
of their own: this file, run as a script.
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ARCHIVES = ROOT / ".cache" / "sdists"

#: How long the download may take.
SECONDS = 120


def unpacked(requirement: str, folder: Path) -> Path:
    """Unpack a source distribution into `folder`; its top folder.

    :param requirement: with an exact version: `gunicorn==27.0.1`.

    Skips the test where it cannot be had.
    """
    name = requirement.replace("==", "-")
    archive = ARCHIVES / f"{name}.tar.gz"
    if not archive.exists():
        _fetch(requirement, archive)
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / name


def _fetch(requirement: str, archive: Path) -> None:
    """Put the archive there, whole or not at all."""
    ARCHIVES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ARCHIVES) as folder:
        got = Path(folder) / archive.name
        command = [sys.executable, __file__, *requirement.split("=="), str(got)]
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            pytest.skip(f"{requirement} was not downloaded within {SECONDS} s")
        if ran.returncode:
            pytest.skip(f"{requirement} cannot be downloaded: {ran.stderr[-300:]}")
        got.replace(archive)


def download(name: str, version: str, target: Path) -> None:
    """Script: fetch one file from where pip is configured to look.

    :raises SystemExit: the index has no such file, or not what it promised.
    """
    from pip._internal.commands.download import DownloadCommand
    from pip._vendor.packaging.specifiers import SpecifierSet

    command = DownloadCommand("download", "")
    options, _ = command.parse_args(["--no-binary", ":all:", "--quiet"])
    with command.main_context():
        session = command.get_default_session(options)
        finder = command._build_package_finder(options, session)
        found = finder.find_best_candidate(name, SpecifierSet(f"=={version}")).best_candidate
        if found is None:
            raise SystemExit(f"the index has no source distribution of {name} {version}")
        response = session.get(found.link.url_without_fragment)
        response.raise_for_status()
        _check(found.link.hash_name, found.link.hash, response.content)
        target.write_bytes(response.content)


def _check(algorithm: str | None, expected: str | None, data: bytes) -> None:
    if algorithm and hashlib.new(algorithm, data).hexdigest() != expected:
        raise SystemExit(f"downloaded bytes do not have the index's {algorithm} {expected}")


if __name__ == "__main__":
    download(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
