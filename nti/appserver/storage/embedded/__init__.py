"""The default storage: a ZEO server of the site's own, on a unix socket, shared by its workers.

`place` says which files are its, `client` finds the server or starts it and opens
the database, `server` is the process itself.

Two lock files order its life, and the system lets go of both when a process that holds one
ends, however it ended:

- `users.lock` is held, shared, by each process that uses the server, from before it looks for
  it until it has closed its storage. The server ends soon after nobody holds it, unless an
  arbiter lives (`keepers`) whose next worker will. It does not count connections for that: a
  process that was killed before it had connected would leave it waiting for one.
- `start.lock` is held by whoever looks for the server or starts it, and by the server from
  the moment it decides to end until it is gone. So a client never meets a server that is
  leaving, and two servers never meet; the FileStorage's own lock stands behind that.

A client that loses its server, however that went, starts another.
"""
