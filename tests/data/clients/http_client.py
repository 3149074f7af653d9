"""The http.client of Python's own library: `http_client.py PORT CASE`."""

import hashlib
import http.client
import json
import sys


def keep_alive(connection):
    """Every answer on the first connection."""
    places = set()
    for number in range(20):
        connection.request("GET", f"/number/{number}")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, str(number).encode())
        assert connection.sock is not None, "the gateway closed the connection"
        places.add(connection.sock.getsockname())
    assert len(places) == 1, places


def chunked(connection):
    """Bodies without a length, and what follows them on the same connection."""
    pieces = [bytes([n % 256]) * (1 + n * 37 % 9000) for n in range(500)]
    body = b"".join(pieces)
    for _ in range(2):
        connection.request("POST", "/digest", body=iter(pieces))
        answer = connection.getresponse()
        got = json.loads(answer.read())
        assert answer.status == 200, got
        assert got == {"length": len(body), "sha256": hashlib.sha256(body).hexdigest(), "announced": None}, got


CASES = {"keep_alive": keep_alive, "chunked": chunked}

CASES[sys.argv[2]](http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=20))
