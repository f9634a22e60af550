from pathlib import Path

from bench.contest import Bench
from bench.peers import Peers
from bench.rows.fidelity import USERS, _fast
from bench.targets import LedgerServer


def test_what_locust_reports_is_read_when_its_last_request_is_in_it(tmp_path: Path) -> None:
    with LedgerServer(tmp_path / "delays", delays=True) as server:
        bench = Bench(tmp_path, Peers())
        reported = _fast(bench, server, rate=10 * USERS, seconds=2)
        truth = server.figures()

    assert reported["requests"] == truth["requests"] > USERS
    assert 0.002 <= reported["p50"] <= reported["p99"] <= reported["max"]
    assert reported["max"] >= 0.025
    assert reported["rate"] > 0
