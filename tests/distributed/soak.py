"""The tests of chance in full counts, across network namespaces, with a table of figures at the end. Needs root.

python -m tests.distributed.soak [--suites 20] [--kills 30] [--disturbed 15] [--readme]
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asyncload_lib.run.members import REPORT_INTERVAL_S
from bench.section import write
from tests.distributed.accounts import by_process, differences, imbalances, lost_s, phases, row
from tests.distributed.landscape import Landscape
from tests.distributed.network import unavailable

CHAT = Path(__file__).parent / "chat_by_process.py"
RUN_S = 12.0


def suite(landscape: Landscape, folder: Path) -> dict[str, Any]:
    """Run all scenarios over three workers; the ledger is that of this run."""
    landscape.reset_ledger()
    before = landscape.redis_commands() or {}
    begun_s = time.monotonic()
    with landscape.cluster(folder, "suite.py", ASYNCLOAD_BASELINE_ENABLED="true") as cluster:
        code = cluster.wait()
        cluster.wait_workers()
        results = cluster.results
    ledger = landscape.ledger()
    ledger["redis"]["commands"] = {k: n - before.get(k, 0) for k, n in ledger["redis"]["commands"].items()}
    problems = [*differences(results, ledger), *results["run"]["status_reasons"]]
    if code not in (0, 3):
        problems.append(f"exit code {code}")
    return {
        "problems": problems,
        "seconds": time.monotonic() - begun_s,
        "operations": sum(phase["total_requests"] for phase in phases(results).values()),
        "start skew (ms)": 1e3 * max(metric["start_skew"] for metric in results["metrics"]),
        "clock offset (ms)": 1e3 * max(abs(worker["clock_offset_s"]) for worker in results["workers"]),
    }


def kill(landscape: Landscape, folder: Path) -> dict[str, Any]:
    """Kill one of three workers at a random moment of a run of `RUN_S` seconds."""
    landscape.reset_ledger()
    with landscape.cluster(folder, CHAT, "-u", "9", "-r", "9", "-t", f"{RUN_S:g}s") as cluster:
        cluster.expect_users()
        time.sleep(random.uniform(1, RUN_S / 2))
        victim = random.choice(cluster.workers)
        victim.send(signal.SIGKILL)
        killed_ns = time.monotonic_ns()
        cluster.expect("run-time limit reached")
        stopped = time.time()
        code = cluster.wait()
        results = cluster.results
        report_s = max(path.stat().st_mtime for path in cluster.out.iterdir()) - stopped
    ids = landscape.chat_ids()
    answered = by_process(ids, "answered")
    told = {node.pid: row(results, node.pid) for node in cluster.workers}
    oldest_s = lost_s(ids, victim.pid, told[victim.pid]["operations"], killed_ns)
    problems = imbalances(results)
    problems += [
        f"a survivor has {told[node.pid]['operations']} of {answered[node.pid]}"
        for node in cluster.workers
        if node is not victim and told[node.pid]["operations"] != answered[node.pid]
    ]
    if code != 4:
        problems.append(f"exit code {code}")
    if told[victim.pid]["state"] != "lost" or not any("last heard" in why for why in results["run"]["status_reasons"]):
        problems.append("the victim is not named")
    if oldest_s > REPORT_INTERVAL_S:
        problems.append(f"{oldest_s:.3f} s were lost, which is more than {REPORT_INTERVAL_S:g} s")
    if report_s > 10:
        problems.append(f"the report came {report_s:.1f} s after the stop")
    return {
        "problems": problems,
        "stop to report (s)": report_s,
        "lost operations": answered[victim.pid] - told[victim.pid]["operations"],
        "oldest of them (s)": oldest_s,
    }


def disturb(landscape: Landscape, folder: Path) -> dict[str, Any]:
    """Kill, end or freeze (7 s) one of three workers at a random moment of the suite."""
    landscape.reset_ledger()
    before = landscape.redis_commands() or {}
    number = random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
    begun_s = time.monotonic()
    with landscape.cluster(folder, "suite.py") as cluster:
        cluster.expect("Run ")
        time.sleep(random.uniform(0.5, 9))
        victim = random.choice(cluster.workers)
        victim.send(number)
        if number == signal.SIGSTOP:
            time.sleep(7)
            victim.send(signal.SIGCONT)
        code = cluster.wait()
        cluster.wait_workers()
        results = cluster.results
    ledger = landscape.ledger()
    ledger["redis"]["commands"] = {k: n - before.get(k, 0) for k, n in ledger["redis"]["commands"].items()}
    problems = imbalances(results) if number == signal.SIGKILL else differences(results, ledger)
    told = row(results, victim.pid)
    expected = {signal.SIGKILL: {"lost"}, signal.SIGTERM: {"left"}, signal.SIGSTOP: {"returned", "lost"}}[number]
    if told["state"] not in expected:
        problems.append(f"the victim is {told['state']}")
    if code != 4:
        problems.append(f"exit code {code}")
    if not any(told["id"] in why for why in results["run"]["status_reasons"]):
        problems.append("the victim is not named")
    return {"problems": [f"{number.name}: {problem}" for problem in problems], "seconds": time.monotonic() - begun_s}


def repeat(
    name: str, count: int, test: Callable[[Landscape, Path], dict[str, Any]], landscape: Landscape
) -> tuple[bool, str]:
    """Run a test `count` times and print its row; return whether all went well, and the row."""
    rows = []
    for number in range(count):
        folder = Path(tempfile.mkdtemp(prefix="asyncload-soak-"))
        try:
            rows.append(test(landscape, folder))
        except AssertionError as error:
            rows.append({"problems": [str(error)[-2000:]]})
        for problem in rows[-1]["problems"]:
            print(f"{name} {number + 1}: {problem} ({folder})", file=sys.stderr, flush=True)
        if not rows[-1]["problems"]:
            shutil.rmtree(folder)
    good = sum(not row["problems"] for row in rows)
    figures = {key: [row[key] for row in rows if key in row] for key in rows[0] if key != "problems"} if rows else {}
    texts = [f"{key} {min(values):.3g} to {max(values):.3g}" for key, values in figures.items() if values]
    line = f"| {name} | {good} of {count} | {'; '.join(texts)} |"
    print(line, flush=True)
    return good == count, line


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suites", type=int, default=20)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--disturbed", type=int, default=15)
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if reason := unavailable():
        print(reason, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="asyncload-soak-") as folder, Landscape(Path(folder)) as landscape:
        where = "netem" if landscape.network.has_delay else "a proxy before the target; the kernel has no netem"
        head = [
            f"One master, three workers, one target, six machines; 2 ms by {where}; {time.strftime('%Y-%m-%d')}.",
            *("", "| test | passed | least to most |", "|---|---|---|"),
        ]
        print("\n".join(head), flush=True)
        tests: list[tuple[str, int, Callable[[Landscape, Path], dict[str, Any]]]] = [
            ("all scenarios, ledger agrees exactly", options.suites, suite),
            ("SIGKILL of a worker at random", options.kills, kill),
            ("SIGKILL, SIGTERM or SIGSTOP for 7 s, in the suite", options.disturbed, disturb),
        ]
        outcomes = [repeat(name, count, test, landscape) for name, count, test in tests if count]
    if options.readme:
        write("soak", "\n".join([*head, *(line for _, line in outcomes)]))
    return 0 if all(passed for passed, _ in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
