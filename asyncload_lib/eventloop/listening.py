"""Where a process listens: what workers behind one port have in common, whoever started them.

Linux only, from /proc; elsewhere nothing is known.
"""

import os
from contextlib import suppress

__all__ = ["listening_places", "only_listener"]

LISTENS = "0A"
"""The state TCP_LISTEN in /proc/net/tcp."""
ACCEPTS = 0x10000
"""The flag __SO_ACCEPTCON in /proc/net/unix: the socket listens."""


def listening_places(process: int | str = "self", apart_from: str | None = None) -> frozenset[str]:
    """Return where a process listens, as texts that are equal for workers that share a socket or a port.

    Unix sockets below the directory `apart_from` are left out. Raises OSError if the process may not be looked into.
    """
    places = _tcp("tcp") | _tcp("tcp6") | _unix(apart_from)
    if not places:
        return frozenset()
    found = _open_files(process)
    return frozenset(place for inode, place in places.items() if f"socket:[{inode}]" in found)


def only_listener(port: int) -> int | None:
    """Return the one other process that listens at a TCP port of this machine.

    None if there are several, if it is this process itself, or if the one that listens may not be looked into.
    """
    places = _tcp("tcp") | _tcp("tcp6")
    sockets = {f"socket:[{inode}]" for inode, place in places.items() if int(place.rpartition(":")[2], 16) == port}
    if not sockets:
        return None
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):  # it has ended, or is somebody else's
            found += [int(process)] if sockets & _open_files(process) else []
    return found[0] if len(found) == 1 and found[0] != os.getpid() else None


def _open_files(process: int | str) -> set[str]:
    directory, found = f"/proc/{process}/fd", set()
    for name in os.listdir(directory):
        with suppress(OSError):  # closed meanwhile
            found.add(os.readlink(f"{directory}/{name}"))
    return found


def _tcp(table: str) -> dict[str, str]:
    """Address by inode, of this network namespace: with SO_REUSEPORT each worker has a socket of its own."""
    places = {}
    with suppress(OSError), open(f"/proc/self/net/{table}") as rows:
        namespace = os.stat("/proc/self/ns/net").st_ino
        next(rows, None)
        for row in rows:
            columns = row.split()
            if columns[3] != LISTENS:  # the kernel lists these first, and connections may be many
                break
            places[columns[9]] = f"{table} {namespace} {columns[1]}"
    return places


def _unix(apart_from: str | None) -> dict[str, str]:
    places = {}
    with suppress(OSError), open("/proc/self/net/unix", errors="replace") as rows:
        next(rows, None)
        for row in rows:
            columns = row.rstrip("\n").split(maxsplit=7)
            path = columns[7] if len(columns) > 7 else ""
            if int(columns[3], 16) & ACCEPTS and not (apart_from and path.startswith(apart_from + os.sep)):
                places[columns[6]] = f"unix {columns[6]}"
    return places
