"""ZEO's client for a process of greenlets: its I/O on a native thread.

    greenlet                      native thread of one storage
    client.py  ClientStorage      thread.py    ClientThread: the way in, the loop (uvloop)
    cache.py   ClientCache  <-->  io.py        ClientIO: what runs in the loop
                                  protocol.py  a connection and its messages
                                  wire.py      bytes to messages and back
                                  outlet.py    the sending side, which loads use directly

A greenlet calls a method of the storage; `thread` puts it into one queue for
both calls and messages without an answer, so that they leave in the order they
were made; the greenlet switches away and is woken through `nti.appserver.hub`.
A load is sent by the greenlet itself where nothing is in its way.
`install` has everybody in the process, ZConfig and `ZEO.client` included, get
this client.

Locks. The cache's lock, an outlet's and those of ZODB's MVCC adapter are taken by both
sides for moments and are native. The commit lock of the storage is held across round
trips and is one that greenlets wait for.
"""
