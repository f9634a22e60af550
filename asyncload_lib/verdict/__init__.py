"""Judgement: `grammar` reads criteria, `metrics` and `observation` say what they are about, `criteria` decides.

`generator` tells whether the load generator can be trusted, `comparison` sets two runs side by side.
"""
