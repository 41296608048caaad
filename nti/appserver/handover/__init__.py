"""Connections go to the worker that their request belongs to.

An Engine.IO session lives in one worker, and its client's next request may
come to any of them. The session's name begins with that of its worker
(`names`), and a worker that reads a request for another's session gives it the
connection, unread request and all, over a unix socket (`passing`): from then on
it is as if the other had accepted it. `folder` is where workers find each
other's sockets; the bus of Socket.IO uses it, too.

Runs in greenlets of a worker. Which connections, and what becomes of them,
`nti.appserver.http` knows; which requests, `nti.appserver.socketio`.
"""
