"""Processes of this interpreter that a process of ours starts.

Nothing here starts one. It may be called anywhere, and does not switch.
"""

import os
import sys


def python_environ() -> dict[str, str]:
    """The environment in which another Python finds the modules that this one does.

    A script of zc.buildout sets its path itself, and nobody else knows it.
    """
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
