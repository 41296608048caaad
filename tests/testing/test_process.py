"""The ports that servers of tests are given."""

import socket

from nti.appserver.testing.process import free_port

#: Enough to meet one of the ports almost surely, were they given to anybody.
OTHERS = 4000


def test_a_port_is_given_to_nobody_else_and_its_server_can_bind_it() -> None:
    given = [free_port() for _ in range(50)]
    assert len(set(given)) == len(given)
    assert not set(given) & {port_of_somebody_else() for _ in range(OTHERS)}
    for port in given:
        socket.create_server(("127.0.0.1", port)).close()


def port_of_somebody_else() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
