"""The private directory of the workers' sockets: where it is, and the removal of what killed processes left there."""

import contextlib
import hashlib
import os
import re
import stat
import tempfile

__all__ = ["SOCKET_NAME", "forget_dead", "identity", "is_gone", "make_private", "pid_of", "remove_left", "socket_place"]

MAX_SOCKET_PATH = 100
"""Systems allow 104 to 108 bytes: a deep TMPDIR leaves no room."""
SOCKET_NAME = re.compile(r"(\d+)-\d+\.sock")


def socket_place(key: str, number: int) -> tuple[str, str, str]:
    """Return (root, directory, path) of this process's `number`-th socket; probes of one `key` share the directory.

    Raises OSError where no temporary directory can be written to.
    """
    uid = os.getuid() if hasattr(os, "getuid") else 0
    for place in (tempfile.gettempdir(), "/tmp"):
        root = os.path.join(place, f"asyncload-{uid}")
        directory = os.path.join(root, f"{_pid_namespace()}-{_digest(key)}")
        path = os.path.join(directory, f"{os.getpid()}-{number}.sock")
        if len(path) <= MAX_SOCKET_PATH:
            break
    return root, directory, path


def make_private(directory: str) -> None:
    """Make a directory, or take one that is there if nobody else can use it. Raises PermissionError if somebody can."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{directory} is not a private directory of this user")


def forget_dead(root: str) -> None:
    """Remove what processes left that were killed; those of other PID namespaces cannot be seen from here."""
    namespace = _pid_namespace()
    for directory in (os.path.join(root, name) for name in os.listdir(root) if name.startswith(f"{namespace}-")):
        with contextlib.suppress(OSError):
            for name in os.listdir(directory):
                if SOCKET_NAME.fullmatch(name) and is_gone(pid_of(name)):
                    os.unlink(os.path.join(directory, name))
            os.rmdir(directory)


def remove_left(path: str) -> None:
    """Remove a socket on which nobody listens, unless its process lives: it may be about to listen."""
    if is_gone(pid_of(path)) or not os.path.isdir("/proc/self"):
        with contextlib.suppress(OSError):
            os.unlink(path)


def pid_of(path: str) -> int:
    """Process whose socket this is."""
    return int(os.path.basename(path).partition("-")[0])


def is_gone(pid: int) -> bool:
    """Whether a process has ended, even if its parent has not noticed yet; False where that is not known."""
    try:
        with open(f"/proc/{pid}/stat") as stat_file:
            return stat_file.read().rpartition(")")[2].split()[0] in ("Z", "X")
    except FileNotFoundError:
        return os.path.isdir("/proc/self")
    except OSError:  # it ended while it was read, or its number is that of another user's process by now
        return True


def identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from another one made later in its place; None if there is no file."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _pid_namespace() -> str:
    """Return a word for the PID namespace, such as a container's: process ids are unique only within one."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as boot:  # machines that share a directory have namespaces alike
            return _digest(f"{boot.read()} {os.readlink('/proc/self/ns/pid')}")[:8]
    except OSError:
        return "0"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
