"""Servers and clients for tests: this package's own and those of its users.

`process` starts real servers, `websocket` and `socketio` speak to them as a
browser would, `zeo` starts a real ZEO server. Nothing here patches the process
that imports it.
"""
