#!/usr/bin/env python3
"""What a second worker adds. Prints a table. Needs root, for the scheduler.

    sudo -E python3 workers.py target/release/lictor

Two workers at full speed, their load and their origins want more than two cores. So every worker thread gets the same small share of a
core and no more (SCHED_DEADLINE): what limits the requests a second is workers, and the rest of the machine is the load's.
"""
import argparse, os, statistics, subprocess, sys
from pathlib import Path

if len(sys.argv) != 2:
    sys.exit("usage: workers.py LICTOR, as root")
os.environ["PEER_LICTOR"] = str(Path(sys.argv[1]).resolve())
import proxybench as bench

ROUNDS, SECONDS, CONNECTIONS = 5, 3, 128
PERIOD_NS, SHARE = 20_000_000, 0.15


def workers(pid):
    """The worker threads of a process."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [t.name for t in tasks if (t / "comm").read_text().startswith("worker-")]


def limited(pid):
    """Gives each worker its share of a core."""
    for thread in workers(pid):
        period = str(PERIOD_NS)
        subprocess.run(["chrt", "-d", "--sched-runtime", str(int(PERIOD_NS * SHARE)), "--sched-deadline", period,
                        "--sched-period", period, "-p", "0", thread], check=True)


def used_ns(pid):
    return [int(Path(f"/proc/{pid}/task/{t}/schedstat").read_text().split()[0]) for t in workers(pid)]


def run(proxy):
    """Requests a second, and the share of a core that each worker used."""
    load = bench.wrk(proxy, SECONDS, 2, "h1", bench.ECHO + "1k", CONNECTIONS)
    command = next(load)
    before = used_ns(proxy.pid)
    out = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS + 30, check=True).stdout
    after = used_ns(proxy.pid)
    requests, took, bad = load.send(out)
    return requests / took, sorted((b - a) / 1e9 / took for a, b in zip(before, after)), bad


def main():
    args = argparse.Namespace(peers=[], scenarios=["get1k"], free=True, workers=0, keep=False)
    with bench.Bench(args) as running:
        proxies = []
        for i, count in enumerate((1, 2)):
            args.workers = count
            proxies.append(running.start("lictor", i))
        for proxy in proxies:
            run(proxy)
            limited(proxy.pid)
            run(proxy)
        print(f"{SHARE:.0%} of a core for each worker, {CONNECTIONS} connections, {ROUNDS} rounds of {SECONDS} s")
        print(f"{'one worker':>20} {'two workers':>20} {'ratio':>7}   share used by each  bad")
        ratios = []
        for i in range(ROUNDS):
            one, two = (run(p) for p in proxies) if i % 2 == 0 else reversed([run(p) for p in reversed(proxies)])
            ratios.append(two[0] / one[0])
            shares = " ".join(f"{s:.1%}" for s in one[1] + two[1])
            print(f"{one[0]:16.0f} rps {two[0]:16.0f} rps {ratios[-1]:7.2f}   {shares}  {one[2] + two[2]}", flush=True)
        print(f"two workers carry {statistics.median(ratios):.2f} times what one carries (median)")


main()
