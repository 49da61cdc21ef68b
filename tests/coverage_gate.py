"""The thresholds of coverage, which `coverage` itself knows only one of. Run by `make cover` after combining."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

#: Percent of statements and branches together, under a part of the tree ("" is all of it).
THRESHOLDS = {"": 85.0, "daemon/cosessiond/store/": 95.0, "daemon/cosessiond/sessions/": 95.0}


def percent(files: dict, prefix: str) -> float | None:
    """How much of the files under `prefix` ran; None when there is nothing to run."""
    summaries = [each["summary"] for name, each in files.items() if name.startswith(prefix)]
    total = sum(each["num_statements"] + each["num_branches"] for each in summaries)
    ran = sum(each["covered_lines"] + each["covered_branches"] for each in summaries)
    return 100.0 * ran / total if total else None


def main() -> int:
    """Print the report and each threshold; 1 if one is not reached."""
    coverage = [sys.executable, "-m", "coverage"]
    subprocess.run([*coverage, "report", "--skip-covered", "--skip-empty"], check=True)
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "coverage.json"
        subprocess.run([*coverage, "json", "-q", "-o", str(report)], check=True)
        files = json.loads(report.read_text(encoding="utf-8"))["files"]
    failed = False
    for prefix, threshold in THRESHOLDS.items():
        reached = percent(files, prefix)
        short = reached is None or reached < threshold
        failed |= short
        shown = "nothing measured" if reached is None else f"{reached:.1f} %"
        print(f"{'FAILED' if short else 'ok':6} {prefix or 'overall'}: {shown}, at least {threshold:g} %")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
