#!/usr/bin/env python3
"""What hostile crowds cost the gateway, and what a good client notices of it. Prints a table.

    python3 abuse.py target/release/lictor

Everything stays on 127.0.0.1 and ends by itself, after about a minute. Needs rustc for the good client (pace.rs).
"""
import json, os, re, resource, signal, socket, subprocess, sys, tempfile, threading, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ORIGIN, GOOD_ORIGIN, GATEWAY, ADMIN = 19021, 19022, 18021, 18022
RATE, SECONDS, GOOD = 200, 5, 20
BIG = 8 * 1024 * 1024

CONFIG = f"""
[http]
listen = "127.0.0.1:{GATEWAY}"
[admin]
listen = "127.0.0.1:{ADMIN}"
[consul]
address = ""
[services.web]
instances = ["127.0.0.1:{ORIGIN}"]
[services.good]
instances = ["127.0.0.1:{GOOD_ORIGIN}"]
[[routes]]
match = {{ path = "/{{*rest}}" }}
service = "web"
[[routes]]
match = {{ path = "/good" }}
service = "good"
[telemetry]
log = {{ level = "error" }}
"""


def origin(port):
    """Answers /big with 8 MiB and all else with 1 KiB; a thread for each connection."""
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    small = b"HTTP/1.1 200 OK\r\ncontent-length: 1024\r\n\r\n" + b"x" * 1024
    big = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % BIG + b"x" * BIG

    def serve(connection):
        data = b""
        try:
            while True:
                while b"\r\n\r\n" not in data:
                    more = connection.recv(65536)
                    if not more:
                        return
                    data += more
                head, data = data.split(b"\r\n\r\n", 1)
                connection.sendall(big if head.startswith(b"GET /big") else small)
        except OSError:
            pass
        finally:
            connection.close()

    threading.stack_size(256 * 1024)
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


def kib(pid):
    return int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])


def connect():
    return socket.create_connection(("127.0.0.1", GATEWAY), 10)


def request(path="/", more=""):
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n{more}\r\n".encode()


def nobody(_stop, there):
    there.set()
    return []


def slow_heads(stop, there):
    held = [connect() for _ in range(1000)]
    there.set()
    text = b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: " + b"a" * 1000
    at = 0
    while not stop.wait(0.5) and at < len(text):
        for one in held:
            try:
                one.send(text[at : at + 1])
            except OSError:
                pass
        at += 1
    return held


def idle(stop, there):
    held = []
    for _ in range(5000):
        one = connect()
        one.sendall(request())
        got = 0
        while got < 1024:
            got += len(one.recv(65536))
        held.append(one)
    there.set()
    stop.wait()
    return held


def never_reading(stop, there):
    held = [connect() for _ in range(300)]
    for one in held:
        one.sendall(request("/big"))
    there.set()
    stop.wait()
    return held


def bombs(stop, there):
    """Heads just below the limit and far above it, on connections that come and go."""
    there.set()
    while not stop.is_set():
        for size in (30_000, 200_000):
            try:
                with connect() as one:
                    one.sendall(request(more="".join(f"x-{i}: {'b' * 1000}\r\n" for i in range(size // 1000))))
                    one.recv(65536)
            except OSError:
                pass
    return []


def main():
    lictor = sys.argv[1] if len(sys.argv) > 1 else "lictor"
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    if len(sys.argv) > 2:
        return origin(int(sys.argv[2]))
    with tempfile.TemporaryDirectory() as folder:
        pace = Path(folder) / "pace"
        subprocess.run(["rustc", "-O", HERE / "pace.rs", "-o", pace], check=True, stderr=subprocess.DEVNULL)
        config = Path(folder) / "lictor.toml"
        config.write_text(CONFIG)
        origins = [Child([sys.executable, __file__, lictor, str(port)]) for port in (ORIGIN, GOOD_ORIGIN)]
        print(f"{'':<22}{'MiB at rest, with the crowd, after':>36}{'answered':>10}{'lost':>6}{'p50 ms':>8}{'p99 ms':>8}")
        for name, crowd in [
            ("nobody", nobody),
            ("1,000 slow heads", slow_heads),
            ("5,000 idle", idle),
            ("300 that never read", never_reading),
            ("header bombs", bombs),
        ]:
            gateway = Child([lictor, "run", "-c", config])
            try:
                time.sleep(1)
                run(name, crowd, gateway.child.pid, pace)
            finally:
                gateway.end()
        for one in origins:
            one.end()


class Child:
    def __init__(self, command):
        self.child = subprocess.Popen(command)

    def end(self):
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            self.child.kill()


def run(name, crowd, pid, pace):
    def good():
        command = [pace, f"127.0.0.1:{GATEWAY}", "/good", str(RATE), str(SECONDS), str(GOOD)]
        out = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
        return json.loads(out) if out else {"n": 0, "bad": RATE * SECONDS, "p50": 0, "p99": 0}

    good()  # what the first requests need stays
    rest = kib(pid)
    stop, there, kept = threading.Event(), threading.Event(), []
    thread = threading.Thread(target=lambda: kept.extend(crowd(stop, there)))
    thread.start()
    there.wait(60)
    time.sleep(2)
    said = good()
    during = kib(pid)
    stop.set()
    thread.join()
    for one in kept:
        one.close()
    time.sleep(2)
    memory = "".join(f"{each / 1024:>12.1f}" for each in (rest, during, kib(pid)))
    print(f"{name:<22}{memory}{said['n']:>10}{said['bad']:>6}{said['p50'] / 1000:>8.2f}{said['p99'] / 1000:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
