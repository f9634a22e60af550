"""Locust users whose tasks are coroutines: `base` (any protocol), `http`, and the ready-made ones.

`measure` is one operation from its intended start to its outcome; `gate` releases users at one instant; `baseline` is
the blocking side of each scenario.
"""
