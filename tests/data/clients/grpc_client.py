"""The client of grpcio, with messages that are bytes: `grpc_client.py PORT CASE`."""

import queue
import sys
from collections import Counter

import grpc

TIMEOUT = 20


def unary(channel):
    """The answer with metadata in front of it and behind it."""
    call = channel.unary_unary("/test.Calls/unary")
    asked = [("asked", "something"), ("asked-bin", b"\x00\xfe")]
    answer, call = call.with_call(b"abc", metadata=asked, timeout=TIMEOUT)
    assert answer == b"cba", answer
    assert call.code() == grpc.StatusCode.OK, call.code()
    first = dict(call.initial_metadata())
    assert (first["first"], first["seen-bin"]) == ("a", b"\x00\xfe"), first
    assert dict(call.trailing_metadata())["last"] == "something", call.trailing_metadata()


def large(channel):
    """More than the windows of flow control hold, both ways."""
    data = bytes(range(256)) * 12_000
    asked = [("asked", "x"), ("asked-bin", b"x")]
    assert channel.unary_unary("/test.Calls/unary")(data, metadata=asked, timeout=TIMEOUT) == data[::-1]


def server_stream(channel):
    answers = list(channel.unary_stream("/test.Calls/server_stream")(b"500", timeout=TIMEOUT))
    assert answers == [b"%d" % number for number in range(500)], answers


def client_stream(channel):
    messages = [b"x" * size for size in range(400)]
    answer = channel.stream_unary("/test.Calls/client_stream")(iter(messages), timeout=TIMEOUT)
    assert int(answer) == sum(range(400)), answer


def bidi(channel):
    """Each message is sent only when the answer to the one before has come."""
    messages = queue.SimpleQueue()
    answers = channel.stream_stream("/test.Calls/bidi")(iter(messages.get, None), timeout=TIMEOUT)
    for number in range(50):
        messages.put(b"salve %d" % number)
        assert next(answers) == b"SALVE %d" % number
    messages.put(None)
    assert next(answers, None) is None
    assert answers.code() == grpc.StatusCode.OK, answers.code()


def error(call):
    """The status with which `call` fails."""
    try:
        answer = call()
    except grpc.RpcError as failure:
        return failure
    raise AssertionError(f"no failure but {answer}")


def status(channel):
    """A status in place of an answer; its message is no ASCII."""
    message = "not now: 100% \N{GREEK SMALL LETTER OMEGA}\n"
    failed = error(lambda: channel.unary_unary("/test.Calls/fail")(message.encode(), timeout=TIMEOUT))
    assert failed.code() == grpc.StatusCode.FAILED_PRECONDITION, failed
    assert failed.details() == message, failed.details()
    metadata = dict(failed.trailing_metadata())
    assert (metadata["why"], metadata["why-bin"]) == ("the test", b"\x00\xff"), metadata


def late_status(channel):
    """A status behind an answer."""
    answers = channel.unary_stream("/test.Calls/fail_late")(b"", timeout=TIMEOUT)
    assert next(answers) == b"first"
    failed = error(lambda: next(answers))
    assert (failed.code(), failed.details()) == (grpc.StatusCode.DATA_LOSS, "no more"), failed


def unknown(channel):
    failed = error(lambda: channel.unary_unary("/test.Calls/none")(b"", timeout=TIMEOUT))
    assert failed.code() == grpc.StatusCode.UNIMPLEMENTED, failed


def deadline(channel):
    """The client gives up, and the service learns of it; the connection serves on."""
    assert channel.unary_unary("/test.Calls/who")(b"", timeout=TIMEOUT) == b"a"
    failed = error(lambda: list(channel.unary_stream("/test.Calls/hang")(b"", timeout=1)))
    assert failed.code() == grpc.StatusCode.DEADLINE_EXCEEDED, failed
    assert channel.unary_unary("/test.Calls/has_left")(b"", timeout=TIMEOUT) == b"yes"


def cancel(channel):
    """The client takes a call back, and the service learns of it long before the deadline."""
    call = channel.unary_stream("/test.Calls/hang")(b"", timeout=TIMEOUT)
    assert next(call) == b"here"
    call.cancel()
    assert channel.unary_unary("/test.Calls/has_left")(b"", timeout=TIMEOUT) == b"yes"


def balance(channel):
    """Two servers share the calls of one connection."""
    call = channel.unary_unary("/test.Calls/who")
    counts = Counter(call(b"", timeout=TIMEOUT) for _ in range(100))
    assert counts == {b"a": 50, b"b": 50}, counts


def unavailable(channel):
    """No instance listens."""
    failed = error(lambda: channel.unary_unary("/test.Calls/who")(b"", timeout=TIMEOUT))
    assert failed.code() == grpc.StatusCode.UNAVAILABLE, failed


CASES = {
    case.__name__: case
    for case in [
        unary,
        large,
        server_stream,
        client_stream,
        bidi,
        status,
        late_status,
        unknown,
        deadline,
        cancel,
        balance,
        unavailable,
    ]
}

# A proxy of the machine is none of the test's.
with grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}", options=[("grpc.enable_http_proxy", 0)]) as made:
    CASES[sys.argv[2]](made)
