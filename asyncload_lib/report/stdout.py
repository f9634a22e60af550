"""How lines get to whoever watches stdout; apart from what they say, which takes much longer to import."""

import os
import sys

__all__ = ["say"]


def say(text: str, end: str = "\n") -> None:
    """Print; what the terminal cannot show, or a reader that has seen enough, changes nothing about a run."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(f"{text}{end}".encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
    except OSError:  # such as a broken pipe: nothing more may go there, at exit neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
