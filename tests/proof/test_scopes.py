"""What a proof says it is about: nothing that it draws in is forgotten, and its hash changes with that and no more."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from proof.place import Busy, Place, alone, private_copy
from proof.scopes import SCOPES, Scope, Sources
from proof.table import PROOFS
from source_tree import PACKAGES

BY_NAME = {proof.name: proof for proof in PROOFS}


def test_every_proof_says_what_it_is_about():
    assert set(SCOPES) == set(BY_NAME)


def test_nothing_that_a_proof_draws_in_is_left_out_of_its_scope_and_one_that_forgets_a_module_is_caught():
    sources = Sources()
    for name, scope in SCOPES.items():
        tool = [BY_NAME[name].tool]
        assert sources.leaving(scope, tool) == [], f"is {name} about these, or are they beside it? say so in scopes.py"
        assert sources.unmatched(scope) == [], name
        # The seeded bug: the last of its sources is forgotten, and nothing stands in for it.
        *kept, forgotten = scope.sources
        left = sources.leaving(scope._replace(sources=tuple(kept), beside=()), tool)
        assert any(f"{each}.".startswith(forgotten.removesuffix("*")) for each in left), name
    assert sources.unmatched(Scope(("cosessiond.stores.*",))) == ["cosessiond.stores.*"]


@pytest.fixture
def tree(tmp_path):
    """A small tree that looks like ours."""
    for package, place in PACKAGES.items():
        (tmp_path / place / "store").mkdir(parents=True)
        (tmp_path / place / "__init__.py").write_text(f'"""{package}."""\n')
        (tmp_path / place / "store" / "__init__.py").write_text("")
    daemon = tmp_path / PACKAGES["cosessiond"]
    (daemon / "__main__.py").write_text("from cosessiond.claims import NOTHING\n")
    (daemon / "claims.py").write_text("NOTHING = 0\n")
    (daemon / "store" / "log.py").write_text('"""Says."""\nSIZE = 1  # of it\n')
    tests = tmp_path / "tests" / "tools"
    tests.mkdir(parents=True)
    (tests / "prove.py").write_text('from tools import judge\nCHILD = "child.py"\n')
    (tests / "judge.py").write_text("from cosessiond.store import log\n")
    (tests / "child.py").write_text("import cosession\n")
    return tmp_path


SCOPE = Scope(("cosessiond.store.*",), ("cosession", "cosessiond"), daemon=False)


def test_what_a_tool_draws_in_is_found_in_its_imports_and_in_the_scripts_it_names(tree):
    found = Sources(tree)
    assert found.leaving(SCOPE, ["tools/prove.py"]) == []
    assert found.leaving(SCOPE._replace(beside=()), ["tools/prove.py"]) == ["cosession", "cosessiond"]
    assert found.leaving(SCOPE._replace(sources=()), ["tools/prove.py"]) == ["cosessiond.store", "cosessiond.store.log"]
    started = found.leaving(SCOPE._replace(daemon=True), ["tools/prove.py"])
    assert started == ["cosessiond.__main__", "cosessiond.claims"]


@pytest.mark.parametrize(
    ("file", "text", "counts"),
    [
        ("daemon/cosessiond/store/log.py", "SIZE = 2\n", True),
        ("daemon/cosessiond/store/log.py", '"""Says more."""\n\nSIZE = 1\n', False),
        ("daemon/cosessiond/store/more.py", "", True),
        ("daemon/cosessiond/claims.py", "NOTHING = 1\n", False),
        ("tests/tools/judge.py", "from cosessiond.store import log as _\n", True),
        ("tests/tools/child.py", "import cosession as _\n", True),
        ("tests/tools/other.py", "import cosession\n", False),
    ],
)
def test_hash_changes_with_what_the_proof_is_about_and_its_tool_and_no_more(tree, file, text, counts):
    before = Sources(tree).code(SCOPE, ["tools/prove.py"])
    (tree / file).write_text(text)
    assert (Sources(tree).code(SCOPE, ["tools/prove.py"]) != before) is counts


def test_proofs_run_from_a_copy_that_no_other_installation_reaches(tmp_path):
    (tmp_path / "run-left-behind").mkdir()
    with alone(tmp_path), private_copy(tmp_path) as place:
        assert isinstance(place, Place)
        assert not (tmp_path / "run-left-behind").exists()
        program = "import cosession, cosessiond.store, msgspec; print(cosession.__file__, cosessiond.__file__)"
        said = subprocess.run([place.python, "-P", "-c", program], cwd="/", capture_output=True, text=True, check=True)
        assert said.stdout.split() == [str(place.root / path / "__init__.py") for path in PACKAGES.values()]
        command = Path(place.python).with_name("cosessiond")
        assert b"cosessiond" in subprocess.run([command, "--version"], capture_output=True, check=True).stdout
        assert (place.tests / BY_NAME["decoder"].tool).is_file()
        with pytest.raises(Busy), alone(tmp_path):
            pass
    assert [each.name for each in tmp_path.iterdir()] == ["lock"]
