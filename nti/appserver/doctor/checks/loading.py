"""Whether a new worker would start, in the right order, with nothing that blocks it."""

from collections.abc import Iterator

from nti.appserver.doctor.finding import Finding, fault, warning
from nti.appserver.doctor.subject import Subject
from nti.appserver.errors import ConfigurationError

WORKER_CLASS = "nti.appserver.gunicorn.GeventApplicationWorker"

#: Lines of what loading printed that are shown.
LINES = 12


def loading(subject: Subject) -> Iterator[Finding]:
    """gunicorn's configuration and the application load; workers are ours."""
    try:
        loaded = subject.loaded
    except ConfigurationError as problem:
        yield fault("application", str(problem), "workers do not start", "see what it waits for")
        return
    if loaded.failed:
        yield fault(
            "application",
            "loading failed:\n" + "\n".join(loaded.failed.splitlines()[-LINES:]),
            "new workers do not start, and a reload keeps the old code",
            "mend what is reported; `nti-appserver doctor --check` shows all of it",
        )
    worker = loaded.gunicorn.get("worker_class", WORKER_CLASS)
    if subject.config is not None and worker != WORKER_CLASS:
        yield fault(
            str(subject.config),
            f"worker_class is {worker!r}",
            "units of work, WebSockets and Socket.IO need this package's worker",
            f'worker_class = "{WORKER_CLASS}"',
        )


def patching(subject: Subject) -> Iterator[Finding]:
    """Nothing unsafe is imported before the worker is patched."""
    for module, why in sorted(subject.loaded.unsafe.items()):
        yield fault(
            module,
            f"{module} is imported before the worker is patched",
            why,
            "import it neither in gunicorn's configuration file nor, with preload_app, in the "
            "application: set preload_app = False",
        )


def drivers(subject: Subject) -> Iterator[Finding]:
    """No module waits where gevent does not see it."""
    why = "while one request waits for it, no other request of that worker goes on"
    for module, mend in sorted(subject.loaded.blocking.items()):
        yield warning(module, f"the application imports {module}, which waits in C", why, mend)
    for storage, mend in subject.loaded.storages.get("blocks", ()):
        yield fault(storage, f"{storage} blocks the hub while it waits", why, mend)


def storage(subject: Subject) -> Iterator[Finding]:
    """The storage's server can be reached."""
    found = subject.loaded.storages
    if reason := found.get("unreachable"):
        yield fault(
            found["storage"],
            reason,
            "workers wait for it when they start, and end without it",
            "start the server, or mend the setting `storage`",
        )
