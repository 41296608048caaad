"""The default storage: a ZEO server of the site's own, on a unix socket, shared by its workers.

`place` says which files are its, `client` finds the server or starts it and opens
the database, `server` is the process itself.

One lock, `start.lock`, orders all beginnings and ends: whoever looks for the server, starts it
or connects to it for the first time holds it, and so does the server from the moment
it decides to end until it is gone. So a client never meets a server that is
leaving, and two servers never meet; the FileStorage's own lock stands behind that.

The server ends by itself a few seconds after the last client is gone, however it
went: a connection of a killed process is closed by the system. A client that
loses its server, however that went, starts another.
"""
