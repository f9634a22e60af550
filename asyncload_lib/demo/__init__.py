"""The embedded target: a chat backend in an async and a blocking version, a Redis behind a delay, six machines.

`stack` starts it for a run, `supervisor` by itself; `serve` is one of its processes, `assembly` puts them together;
`ledger` counts what was truly served.
"""
