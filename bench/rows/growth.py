"""How the speed changes with the number of users, endpoints and processes: chat JSON from nginx."""

from collections.abc import Callable

from bench.contest import Bench, window
from bench.generators import locust
from bench.model import Column, Figures, Table
from bench.targets import Nginx

__all__ = ["growth"]

COLUMNS = [Column("rate", "requests/s"), Column("cpu_us", "us of generator CPU per request")]


def growth(bench: Bench, limit_s: float) -> list[Table]:
    """Vary one thing at a time around 50 users, one endpoint, one process."""
    nginx = bench.server("nginx", lambda: Nginx(bench.directory / "nginx"))

    def rated(users: int, endpoints: int = 1, processes: int = 1) -> Callable[[], Figures]:
        def measure() -> Figures:
            environment = {"BENCH_ENDPOINTS": str(endpoints)}
            load = locust(bench, "asyncload_chat.py", nginx.host, users, processes=processes, environment=environment)
            with load as process:
                return window(process, nginx.served, bench.window_s, settle_s=0.7 + users / 2500)

        return measure

    if bench.quick:
        contenders = {"10 users": rated(10), "1,000 users": rated(1000)}
    else:
        contenders = {f"{users:,} users": rated(users) for users in (10, 50, 200, 1000, 5000)}
        contenders |= {f"50 users, {names:,} endpoints": rated(50, names) for names in (10, 100, 1000)}
        contenders |= {"50 users, 2 processes": rated(50, processes=2)}
        contenders |= {"1,000 users, 2 processes": rated(1000, processes=2)}
    table = Table("growth", "asyncload: users, endpoints, processes", COLUMNS)
    return [bench.interleave(table, contenders, rounds=1 if bench.quick else 2, limit_s=limit_s)]
