"""A gRPC service by grpcio whose messages are bytes: `grpc_origin.py NAME`. Prints its port; ends with its input."""

import sys
import threading
from concurrent import futures

import grpc

name = sys.argv[1].encode()
left = threading.Semaphore(0)


def who(_request, _call):
    return name


def unary(request, call):
    sent = dict(call.invocation_metadata())
    call.send_initial_metadata([("first", "a"), ("seen-bin", sent["asked-bin"])])
    call.set_trailing_metadata([("last", sent["asked"])])
    return request[::-1]


def server_stream(request, _call):
    for number in range(int(request)):
        yield b"%d" % number


def client_stream(requests, _call):
    return b"%d" % sum(len(request) for request in requests)


def bidi(requests, _call):
    for request in requests:
        yield request.upper()


def fail(request, call):
    call.set_trailing_metadata([("why", "the test"), ("why-bin", b"\x00\xff")])
    call.abort(grpc.StatusCode.FAILED_PRECONDITION, request.decode())


def fail_late(_request, call):
    yield b"first"
    call.abort(grpc.StatusCode.DATA_LOSS, "no more")


def hang(_request, call):
    """Waits until the client has given up, and says so to who asks `has_left`."""
    assert call.time_remaining() < 60, "the deadline did not come along"
    yield b"here"
    gone = threading.Event()
    if call.add_callback(gone.set):
        gone.wait(20)
    left.release()


def has_left(_request, _call):
    return b"yes" if left.acquire(timeout=15) else b"no"


kinds = {
    grpc.unary_unary_rpc_method_handler: [who, unary, fail, has_left],
    grpc.unary_stream_rpc_method_handler: [server_stream, fail_late, hang],
    grpc.stream_unary_rpc_method_handler: [client_stream],
    grpc.stream_stream_rpc_method_handler: [bidi],
}
methods = {method.__name__: kind(method) for kind, served in kinds.items() for method in served}
server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Calls", methods)])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
sys.stdin.read()
server.stop(0)
