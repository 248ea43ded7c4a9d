"""The command line: one small file a verb, made from the verbs' option records.

Human lines go to stderr; the last line on stdout is one JSON object. Read `entry.py` next.
"""

from outsize.cli.entry import main

__all__ = ["main"]
