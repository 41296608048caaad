"""A stand-in for this package's HTTP server: it lends connections and drains when asked.

`environ["nti.appserver.connection"]` as the HTTP room gives it, made of what
gunicorn's own worker gives, so that a request can play the worker's end.
"""

import gevent


class Lent:
    """One connection that may be taken over."""

    def __init__(self, environ, callbacks):
        self._socket = environ["gunicorn.socket"]
        self._unreader = environ["wsgi.input"].reader.unreader
        self._callbacks = callbacks
        self.taken = False
        self.told = None

    def take_over(self):
        self.taken = True
        return self._socket, self._unreader.take_buffered()

    def took_over(self, status=101, sent=0):
        self.told = (status, sent)

    def on_drain(self, callback):
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)


class Lender:
    """WSGI middleware; `/drain?REASON` ends the worker as far as applications can tell.

    `/lent` says how many callbacks wait, and what the last taken connection was reported with.
    """

    def __init__(self, app):
        self.app = app
        self.callbacks = []
        self.last = None

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/drain":
            for callback in list(self.callbacks):
                gevent.spawn(callback, environ["QUERY_STRING"])
        if environ["PATH_INFO"] in ("/drain", "/lent"):
            body = f"{len(self.callbacks)} {self.last}".encode()
            start_response("200 OK", [("Content-Length", str(len(body)))])
            return [body]
        lent = environ["nti.appserver.connection"] = Lent(environ, self.callbacks)
        result = self.app(environ, start_response)
        if lent.taken:
            self.last = lent.told
            assert list(result) == []
            raise StopIteration  # how gunicorn's own worker leaves a connection alone
        return result
