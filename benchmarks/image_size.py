"""How much the router adds to its container's base image: what the Dockerfile installs, unpacked and compressed.

    python benchmarks/image_size.py [--base MB]

No container engine is needed: the Dockerfile's own `uv sync` and `strip` run into a folder. `--base` is the
compressed size of the base image (`docker manifest inspect -v`), to which the limit of 150 MB then applies; without it
nothing is judged.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT = 150.0
MB = 1e6


def install(folder: Path) -> None:
    """Do what the Dockerfile does."""
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    commands = [json.loads(words) for words in re.findall(r"^RUN (\[.*\])$", dockerfile, re.MULTILINE)]
    (sync,) = (command for command in commands if command[:2] == ["uv", "sync"])
    (strip,) = (command for command in commands if "strip" in command)
    variables = {
        "UV_PROJECT_ENVIRONMENT": str(folder),
        "UV_LINK_MODE": "copy",
        "UV_COMPILE_BYTECODE": "1",
        "UV_PYTHON": sys.executable,
    }
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    subprocess.run([*sync, "-q"], cwd=ROOT, env={**environment, **variables}, check=True)
    subprocess.run([word.replace("/opt/ollama-router", str(folder)) for word in strip], check=True)
    subprocess.run([folder / "bin" / "python", "-c", "import psycopg.pq, pydantic, re2, uvloop"], check=True)


def sizes(folder: Path) -> tuple[float, float]:
    """Megabytes of the files, and of the layer that is sent."""
    unpacked = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6) as file,
        tarfile.open(fileobj=file, mode="w|") as tar,
    ):
        tar.add(folder, arcname="opt/ollama-router")
    return unpacked / MB, packed.tell() / MB


def main() -> None:
    """Print both sizes; exit code 1 if the whole image is over the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--base", type=float, metavar="MB", help="compressed size of the base image")
    base: float | None = parser.parse_args().base
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder))
        unpacked, packed = sizes(Path(folder))
    print(f"what the Dockerfile adds: {unpacked:.0f} MB unpacked, {packed:.0f} MB compressed")
    if base is not None:
        print(f"with its base: {base + packed:.0f} MB compressed, of {LIMIT:.0f}")
        sys.exit(base + packed > LIMIT)


if __name__ == "__main__":
    main()
