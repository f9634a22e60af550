"""Watching event loops: whether one was blocked, for how long, and by which line.

Doors: `lag` (LoopMonitor, in any program), `asgi` (LoopProbe, in a target), `pytest_plugin`, `witness` (a target seen
from outside) and `thread` (the loop that runs the users). The rest serves these: `heartbeat` measures, `watchdog`
looks, `attribution` and `charge` say whose fault a stall was, `findings` keeps it.
"""
