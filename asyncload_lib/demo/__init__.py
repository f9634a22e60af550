"""The embedded target: a chat backend in an async and a blocking version, a Redis behind a delay, six machines.

`stack` starts it for a run, `serve` by itself; `assembly` and `supervisor` hold its processes together; `ledger` counts
what was truly served.
"""
