"""What is seen to before Locust makes its processes: the master's port is free, and no worker outlives its parent."""

import argparse
import os
import signal
import socket

from asyncload_lib.demo.children import death_signal_setter
from asyncload_lib.errors import ConfigurationError

__all__ = ["prepare_processes"]

ANY_HOST = ("*", "0.0.0.0", "::")


def prepare_processes(options: argparse.Namespace) -> None:
    """See to it for the processes that Locust's options ask for; raises ConfigurationError if the port is taken."""
    if options.master or (options.processes and not options.worker):
        _check_port(options.master_bind_host, options.master_bind_port)
    if options.processes and not options.worker:
        # The workers that Locust forks look for their master where --master-host and --master-port say.
        options.master_port = options.master_bind_port
        if options.master_bind_host not in ANY_HOST:
            options.master_host = options.master_bind_host
    if options.processes:
        _end_with_parent(os.cpu_count() or 1 if options.processes == -1 else options.processes)


def _check_port(host: str, port: int) -> None:
    """Bind as the master will: with its workers forked already it would end in a traceback, and leave them behind."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as ZeroMQ does: a port just left is free
            probe.bind(("" if host == "*" else host, port))
    except socket.gaierror:
        pass  # to ZeroMQ it may be the name of an interface
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else "allowed is 0 to 65535"
        raise ConfigurationError(
            f"--master-bind-port is {port}, where the master cannot listen on --master-bind-host {host}: {why}; "
            "stop whatever uses the port, or choose another and give it to workers as --master-port"
        ) from error


def _end_with_parent(count: int) -> None:
    """Have the next `count` forks of this process ended in order when it ends, in whichever way (Linux).

    Locust leaves them behind: its master forgets them when it exits, and they look for it for minutes.
    """
    set_death_signal = death_signal_setter(signal.SIGTERM)
    if set_death_signal is None:
        return
    left = count

    def in_parent() -> None:
        nonlocal left
        left -= 1

    def in_child() -> None:
        nonlocal left
        if left > 0:
            set_death_signal()
        left = 0

    os.register_at_fork(after_in_parent=in_parent, after_in_child=in_child)
