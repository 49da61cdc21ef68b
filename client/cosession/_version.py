"""The version of the distribution, in the one place where it is written; the build reads it from here.

Rule: standard library only and no import, so that `--version` and the hook path cost nothing.
"""

__version__ = "0.1.0"
