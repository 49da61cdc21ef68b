"""A spool directory of a test's own, and what may lie in it."""

from __future__ import annotations

import pytest

from cosession import spool
from cosessiond.spool.directory import Directory


class Spool:
    """A directory that clients write into and a daemon reads."""

    def __init__(self, path):
        self.path = path
        self.env = {"COSESSION_SPOOL": str(path)}
        self.directory = Directory(path)

    def write(self, number=0, method="put", *, session="", token="", params="", **more):
        """A call with the request id `r<number>`; the name of its file."""
        request_id = more.pop("request_id", f"r{number}")
        params = params or f'{{"key":"k","value":{number},"request_id":"{request_id}"}}'
        path = spool.write(method, params, request_id=request_id, session=session, session_token=token, env=self.env)
        return path.rpartition("/")[2]

    def names(self):
        """What waits, in order."""
        return sorted(each.name for each in self.path.iterdir() if spool.NAME.fullmatch(each.name))

    def refused(self):
        """What was put aside, with the reasons."""
        aside = self.path / "refused"
        found = sorted(aside.iterdir()) if aside.exists() else []
        return {each.name: (aside / f"{each.name}.why").read_text() for each in found if each.suffix != ".why"}


@pytest.fixture
def spooled(tmp_path):
    return Spool(tmp_path / "spool")
