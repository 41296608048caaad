"""What a worker process is, apart from what it serves.

`deferred` keeps an application unmade until the process that serves it is
patched, `imports` refuses what was imported before, `roster` tells workers of
each other across a restart. gunicorn's arbiter imports this room before any
worker is patched: the standard library alone, and nothing that captures a lock,
a socket or a thread-local.
"""
