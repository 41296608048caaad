"""What the checks look at: settings, gunicorn's configuration, URLs, and what loading showed.

The loading happens once, in a process of its own, when a check first asks for
it; a check may wait for it as long as `LOADING_SECONDS`.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult

from nti.appserver.children import python_environ
from nti.appserver.errors import ConfigurationError
from nti.appserver.settings import Settings

#: How long the configuration and the application may take to load.
LOADING_SECONDS = 60.0

REHEARSAL = "nti.appserver.doctor.rehearsal"


@dataclass(frozen=True)
class Loaded:
    """What a new worker would be, as the rehearsal found it.

    :param failed: what loading printed where it failed; "" where it did not.
    :param gunicorn: values of gunicorn's settings; empty where it refused its
        configuration.
    :param unsafe: modules imported before patching, and what goes wrong.
    :param blocking: modules imported that block the hub, and the mend.
    :param storages: what the storage said; see `storages.examine`.
    """

    failed: str = ""
    gunicorn: dict[str, Any] = field(default_factory=dict)
    unsafe: dict[str, str] = field(default_factory=dict)
    blocking: dict[str, str] = field(default_factory=dict)
    storages: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """A site.

    :param settings: of the process that would serve it.
    :param config: gunicorn's configuration file; None: gunicorn's defaults.
    :param urls: where its readers reach it.
    :param slow: whether checks may take half a minute for what happens that late.
    :param patience: seconds to wait for one answer of a URL.
    """

    settings: Settings
    config: Path | None = None
    urls: tuple[SplitResult, ...] = ()
    slow: bool = False
    patience: float = 10.0

    @cached_property
    def loaded(self) -> Loaded:
        """What a new worker would be."""
        return rehearse(self.config, storages=True)

    @property
    def runtime(self) -> Path:
        """The folder of the site's sockets and records."""
        return Path(self.settings.runtime_dir or os.path.join(self.settings.var, "run"))


def rehearse(config: Path | None, *, storages: bool) -> Loaded:
    """Load as a worker would, in a process of its own.

    :param storages: whether to open the storage, too, where others may have it open.
    :raises ConfigurationError: it took too long.
    """
    with tempfile.TemporaryDirectory(prefix="appserver-doctor-") as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", REHEARSAL, str(config or ""), str(report)]
        if storages:
            command.append("storages")
        try:
            done = subprocess.run(
                command,
                env=python_environ(),
                capture_output=True,
                text=True,
                timeout=LOADING_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ConfigurationError(
                f"{config or 'the application'} did not load within {LOADING_SECONDS:.0f} s"
            ) from None
        found = json.loads(report.read_text()) if report.exists() else {}
    failed = (done.stdout + done.stderr).strip() or f"status {done.returncode}"
    return Loaded(failed=failed if done.returncode else "", **found)
