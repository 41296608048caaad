"""Where gevent's hub and native threads meet.

The only room that knows `gevent.monkey`. `native` gives the primitives that
patching left alone, `waking` brings work from a native thread to a hub and lets
a greenlet wait for one. Nothing here knows what the work is.

Two rules hold for all code that uses this room. A native lock is held for a
few bytecodes and never across a greenlet switch, because its owner is a
thread and another greenlet of that thread would walk in. A lock that is held
across a wait is made by the patched `threading`, so that waiting for it switches.
"""

from nti.appserver.hub.native import is_patched

__all__ = ["is_patched"]
