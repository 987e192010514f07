"""Runs read and compared: how their settings, figures and curves differ, as a table and as one self-contained HTML page; one
run as the output of a notebook's cell.

Others take ``reported.Reported``, ``comparison.Comparison``, ``page.render`` and ``page.write_own``, ``summary.summary``,
``server.serve``. Reads the folders of runs and nothing else; ``backends.status.reports`` finds the runs and asks their backends.
"""
