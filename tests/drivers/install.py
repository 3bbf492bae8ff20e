"""Installs what requirements.txt names into a folder; what is not to be had is told, and left out.

usage: install.py FOLDER
"""

import json
import subprocess
import sys
from pathlib import Path

WANTED = Path(__file__).with_name("requirements.txt")


def main(folder: Path) -> None:
    """Install what is not there in the version asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "installed.json"
    installed: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
    for line in WANTED.read_text().splitlines():
        name, found, version = line.partition("==")
        if not found or installed.get(name) == version:
            continue
        print(f"installing {line}", flush=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--only-binary=:all:"]
        if subprocess.run([*command, "--target", str(folder), line]).returncode == 0:
            installed[name] = version
            record.write_text(json.dumps(installed))
        else:
            print(f"{line} is not to be had for this interpreter", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
