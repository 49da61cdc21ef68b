"""What is written is listed first, and what is listed is what is removed: also after an end at any moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosession.errors import ConfigError
from cosession.service import installing, manifest
from cosession.service.manifest import Manifest
from service.test_units_written import placed


class Supervisor:
    """A service manager that only names files."""

    kind = "systemd"

    def __init__(self, files: dict[Path, bytes]) -> None:
        self._files = files

    def files(self, _place, *, confined):
        return {str(path): content for path, content in self._files.items() if confined or path.name != "confined"}

    def steps(self):
        return ["do it"]


@pytest.fixture
def ground(home):
    """A place, and a service manager with three files in directories that are not there."""
    units = home / "config" / "units"
    files = {units / "a.service": b"a\n", units / "a.socket": b"b\n", units / "a.d" / "confined": b"c\n"}
    return placed(str(home)), Supervisor(files)


def everything(home: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(home)): path.read_bytes() if path.is_file() else b""
        for path in home.rglob("*")
        if path.name != "state"
    }


def plan_of(ground, *, confined=True, force=False):
    return installing.plan(ground[0], ground[1], confined=confined, force=force)


def test_installed_and_uninstalled_is_as_before(ground, home):
    before = everything(home)
    plan = plan_of(ground)
    assert plan.is_needed
    assert set(plan.changes.values()) == {"new"}
    written = installing.write(plan, ground[0])
    assert manifest.read(ground[0].state) == written
    assert installing.changed(written) == []
    assert not plan_of(ground).is_needed
    link = home / "config/units/wants/a.socket"
    link.parent.mkdir()
    link.symlink_to(home / "config/units/a.socket")
    noted = installing.note_links(ground[0], written, [str(link)])
    removed = installing.remove(noted, ground[0])
    assert everything(home) == before
    assert {str(link), *map(str, ground[1].files(None, confined=True))} <= set(removed)


@pytest.mark.parametrize("at", range(4))
def test_an_installation_that_was_broken_off_can_be_taken_away(at, ground, home, monkeypatch):
    before, real, calls = everything(home), manifest.replace, []

    def breaks(path, content, mode):
        if len(calls) == at:
            raise OSError("no room")
        calls.append(path)
        real(path, content, mode)

    monkeypatch.setattr(manifest, "replace", breaks)
    with pytest.raises(OSError, match="no room"):
        installing.write(plan_of(ground), ground[0])
    monkeypatch.setattr(manifest, "replace", real)
    found = manifest.read(ground[0].state)
    assert (found is None) == (at == 0)
    if found is not None:
        installing.remove(found, ground[0])
    assert everything(home) == before


def test_a_seeded_installation_that_lists_its_files_last_is_noticed(ground, home, monkeypatch):
    """The same test sees a mistake: files before their list."""
    before = everything(home)
    monkeypatch.setattr(manifest, "write", lambda *_: None)
    installing.write(plan_of(ground), ground[0])
    assert manifest.read(ground[0].state) is None
    assert everything(home) != before


def test_a_unit_of_somebody_else_is_not_replaced_unasked(ground, home):
    other = home / "config/units/a.service"
    other.parent.mkdir(parents=True)
    other.write_text("mine\n")
    with pytest.raises(ConfigError, match="was not written by") as refused:
        plan_of(ground)
    assert refused.value.data == {"path": str(other)}
    assert plan_of(ground, force=True).changes[str(other)] == "changed"


def test_what_is_no_longer_wanted_goes(ground):
    installing.write(plan_of(ground), ground[0])
    plan = plan_of(ground, confined=False)
    assert [Path(path).name for path in plan.obsolete] == ["confined"]
    written = installing.write(plan, ground[0])
    assert not Path(plan.obsolete[0]).exists()
    installing.remove(written, ground[0])
    assert not Path(plan.obsolete[0]).parent.exists(), "its directory is still on the list"


def test_what_was_changed_is_not_removed_unasked(ground, home):
    written = installing.write(plan_of(ground), ground[0])
    (home / "config/units/a.service").write_text("changed\n")
    with pytest.raises(ConfigError, match="was changed after it was written"):
        installing.refuse_changed(written)
    (home / "config/units/a.service").unlink()
    installing.refuse_changed(written)  # what has gone is no loss
    assert installing.changed(written) == [str(home / "config/units/a.service")]
    installing.remove(written, ground[0])


def test_files_of_others_beside_ours_stay(ground, home):
    written = installing.write(plan_of(ground), ground[0])
    other = home / "config/units/a.d/mine.conf"
    other.write_text("mine\n")
    installing.remove(written, ground[0])
    assert [path.name for path in (home / "config").rglob("*") if path.is_file()] == ["mine.conf"]


@pytest.mark.parametrize("damage", [b"", b"{}", b"nonsense", None])
def test_a_damaged_manifest_is_refused_and_can_be_written_anew(damage, ground):
    installing.write(plan_of(ground), ground[0])
    file = Path(ground[0].state, manifest.NAME)
    text = file.read_bytes()
    file.write_bytes(text.replace(b'"confined":true', b'"confined":false') if damage is None else damage)
    assert file.read_bytes() != text
    with pytest.raises(ConfigError, match="cosession service install"):
        manifest.read(ground[0].state)
    written = installing.write(plan_of(ground), ground[0])
    assert manifest.read(ground[0].state) == written


def test_a_manifest_is_private(ground):
    installing.write(plan_of(ground), ground[0])
    file = Path(ground[0].state, manifest.NAME)
    assert file.stat().st_mode & 0o777 == 0o600
    assert isinstance(manifest.read(ground[0].state), Manifest)
