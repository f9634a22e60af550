"""What people read of a run, made from its results JSON alone: HTML, Markdown, JUnit, console, comparison.

`render` writes the files; `view` prepares every word and digit for the `templates/` beside this package.
"""
