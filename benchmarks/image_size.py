"""Build the image without a container engine, run it, and judge its size.

    python benchmarks/image_size.py [--keep FOLDER] [--json]

Needs root on Linux with `mmdebstrap`, Debian's packages and the Python package index. What deploy/Dockerfile says is
done as it stands there: each RUN in a chroot with mounts of its own, on a Debian that `mmdebstrap` makes in the place
of the base image. The result runs as its user on a read-only file system: the demonstration, and `orouter serve` until
the image's own health check passes. Exit code 1 if it does not, or if its files are more than 150 MB unpacked; 3 where
there is no Debian to begin with.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT = 150.0
MB = 1e6
PASSED = (
    "PIP_",
    "UV_INDEX",
    "UV_DEFAULT_INDEX",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
"""Variables that say how this machine reaches the package index."""
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"

_BUILDING = f"""\
set -e
mount -t proc proc "$0/proc"
mount --rbind /dev "$0/dev"
for file in /etc/resolv.conf /etc/hosts; do touch "$0$file"; mount --bind "$file" "$0$file"; done
touch "$0/run/authorities"
[ ! -f {AUTHORITIES} ] || mount --bind {AUTHORITIES} "$0/run/authorities"
exec /usr/sbin/chroot "$0" "$@"
"""
_RUNNING = """\
set -e
mount --bind "$0" "$0"
mount -t proc proc "$0/proc"
mount --rbind /dev "$0/dev"
mount -t tmpfs -o mode=1777 tmpfs "$0/tmp"
mount -t tmpfs -o uid="${USER%:*}",mode=700 tmpfs "$0/data"
mount -o remount,ro,bind "$0"
"$0/usr/bin/busybox" ip link set lo up
exec /usr/sbin/chroot --userspec="$USER" "$0" "$@"
"""
_SERVED = """\
cd /data
python -m ollama_router_core.testing --port 11435 &
echo 'servers: {{a: {{host: 127.0.0.1, port: 11435}}}}' >orouter.yml
{entrypoint} {command} &
for _ in $(seq 100); do
  if {healthcheck} 2>/dev/null; then kill $!; wait $!; exit; fi
  busybox sleep 0.3
done
exit 1
"""


@dataclass
class Stage:
    """What one FROM begins: its files and the words that hold for it."""

    files: Path
    variables: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    words: dict[str, str] = field(default_factory=dict)

    def run(self, command: str) -> None:
        """RUN: a line for the shell."""
        machine = {name: value for name, value in os.environ.items() if name.startswith(PASSED)}
        trusted = dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT"), "/run/authorities")
        path = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        inside(_BUILDING, self.files, machine | trusted | path | self.variables, f"cd {self.folder} && {command}")


def inside(script: str, files: Path, variables: dict[str, str], command: str) -> None:
    """Run a command in a root file system, with mounts that nobody else sees."""
    isolated = ["--mount", "--pid", "--fork", "--kill-child", *(["--net"] if script is _RUNNING else [])]
    words = ["unshare", *isolated, "sh", "-c", script, str(files)]
    subprocess.run([*words, "/bin/sh", "-ec", command], env=variables, check=True, stdout=sys.stderr)


class NoBase(Exception):
    """Debian's packages cannot be had here."""


class Build:
    """Stages of a Dockerfile, of the instructions that ours has."""

    def __init__(self, dockerfile: str, folder: Path) -> None:
        self.folder = folder
        self.arguments: dict[str, str] = {}
        self.stages: dict[str, Stage] = {}
        text = re.sub(r"^\s*#.*\n", "", dockerfile, flags=re.MULTILINE).replace("\\\n", " ")
        self.instructions = [line.split(None, 1) for line in text.splitlines() if line.strip()]

    def stage(self) -> Stage:
        """Carry out everything, and return the last stage."""
        for word, rest in self.instructions:
            stage = next(reversed(self.stages.values()), Stage(self.folder))
            match word:
                case "ARG":
                    name, _, value = rest.partition("=")
                    self.arguments[name] = value
                case "FROM":
                    self.begin(rest)
                case "ENV":
                    stage.variables |= dict(pair.split("=", 1) for pair in shlex.split(rest))
                case "WORKDIR":
                    stage.folder = rest
                    (stage.files / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
                case "COPY":
                    self.copy(stage, shlex.split(rest))
                case "RUN":
                    stage.run(rest)
                case _:
                    stage.words[word] = rest
        return stage

    def begin(self, words: str) -> None:
        """FROM: nothing, or a Debian."""
        image, _, name = re.sub(r"\$\{(\w+)\}", lambda found: self.arguments[found[1]], words).partition(" AS ")
        stage = self.stages[name] = Stage(self.folder / (name or "image"))
        stage.files.mkdir()
        if image != "scratch":
            suite = image.removeprefix("debian:").removesuffix("-slim")
            command = ["mmdebstrap", "--quiet", "--variant=minbase", suite, str(stage.files)]
            if subprocess.run(command, check=False, timeout=900).returncode:
                raise NoBase(image)

    def copy(self, stage: Stage, words: list[str]) -> None:
        """COPY: from the top of the repository or from another stage; a folder's content, as Docker does."""
        base = ROOT
        if words[0].startswith("--from="):
            base = self.stages[words.pop(0).removeprefix("--from=")].files
        *sources, target = words
        place = stage.files / str(Path(stage.folder) / target).lstrip("/")
        for source in sources:
            path = base / source.lstrip("/")
            to = place / path.name if len(sources) > 1 or (path.is_file() and target.endswith("/")) else place
            if path.is_file():
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, to)
            else:
                to.mkdir(parents=True, exist_ok=True)
                left_out = ["--exclude=__pycache__"] if base == ROOT else []
                pack = ["tar", "-C", str(path), "-c", *left_out, "."]
                with subprocess.Popen(pack, stdout=subprocess.PIPE) as packed:
                    subprocess.run(["tar", "-C", to, "-x"], stdin=packed.stdout, check=True)


def sizes(folder: Path) -> tuple[float, float]:
    """Megabytes of the files, hard links counted once, and of them as they are sent."""
    found = (path.lstat() for path in folder.rglob("*") if path.is_file())
    files = {status.st_ino: status.st_size for status in found}
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6) as file,
        tarfile.open(fileobj=file, mode="w|") as tar,
    ):
        tar.add(folder, arcname=".")
    return sum(files.values()) / MB, packed.tell() / MB


def check(image: Stage) -> None:
    """Run what was built, as a container would."""
    variables = {"USER": image.words["USER"], "HOME": "/data", **image.variables}
    inside(_RUNNING, image.files, variables, "! echo >/etc/x && orouter demo --once")
    entrypoint, command = (shlex.join(json.loads(image.words[word])) for word in ("ENTRYPOINT", "CMD"))
    healthcheck = shlex.join(json.loads(image.words["HEALTHCHECK"].partition("CMD ")[2]))
    variables |= {"OROUTER_CONFIG": "/data/orouter.yml", "OROUTER_DATABASE_URL": "sqlite:////data/router.sqlite3"}
    served = _SERVED.format(entrypoint=entrypoint, command=command, healthcheck=healthcheck)
    inside(_RUNNING, image.files, variables, served)


def main() -> None:
    """Build, run, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="an empty folder for all stages, kept afterwards")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    options = parser.parse_args()
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="image-") as temporary:
        try:
            image = Build(dockerfile, options.keep or Path(temporary)).stage()
        except NoBase as error:
            print(f"not built: mmdebstrap could not make {error}", file=sys.stderr)
            sys.exit(3)
        check(image)
        unpacked, packed = sizes(image.files)
    if options.json:
        print(json.dumps({"unpacked_mb": round(unpacked, 1), "sent_mb": round(packed, 1), "limit_mb": LIMIT}))
    else:
        print(f"the image: {unpacked:.0f} MB unpacked, of {LIMIT:.0f}; {packed:.0f} MB as it is sent")
    sys.exit(unpacked > LIMIT)


if __name__ == "__main__":
    main()
