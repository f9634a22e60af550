"""Figures: `recorder` counts every request of a process, `merge` adds processes up, `model` makes the results JSON.

`schema.json` describes that document, `files` reads and writes it.
"""
