"""Programs in a patched process of their own, as a worker is; the process of the tests never is."""

import subprocess
import sys
import textwrap

HEAD = "from gevent import monkey\nmonkey.patch_all()\n"


def run(program: str, *arguments: str, seconds: float = 180, patched: bool = True) -> str:
    """What the program prints; it must end with status 0.

    :param seconds: after which it is taken for one that hangs.
    """
    source = (HEAD if patched else "") + textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", source, *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
