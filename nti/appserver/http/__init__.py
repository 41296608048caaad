"""HTTP/1 connections: bytes to environ and back.

Only what a connection needs lives here: accepting, parking idle connections,
parsing heads, answering, deadlines, limits, draining. What applications do with
a request belongs elsewhere; other rooms reach a connection through
`environ["nti.appserver.connection"]` alone.

`server` is the door. Requests of the common kind take the fast path (`head`,
`response`); every other goes through gunicorn's own parser (`stock`), so that
gunicorn's policy decides. The hub runs the callbacks of `connection`, pooled
greenlets (`pool`) run the rest.
"""
