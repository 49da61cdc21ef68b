"""A daemon starts where nobody may write a temporary file: on a full disk, or behind a service manager's protection."""

import subprocess
import sys

WITHOUT = """
import os, tempfile
def nowhere(*_):
    raise FileNotFoundError("No usable temporary directory found")
tempfile._get_default_tempdir = nowhere
import cosessiond.app
assert tempfile.tempdir is None, "what others are told is not changed"
"""


def test_nothing_of_the_daemon_asks_for_one():
    done = subprocess.run([sys.executable, "-c", WITHOUT], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
