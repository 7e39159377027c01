"""The image's build without a container engine does what a Dockerfile says."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.image_size import ROOT, Build, sizes

DOCKERFILE = r"""
ARG KIND=scratch
FROM ${KIND} AS first
# a remark
ENV A=1 \
    B="two words"
WORKDIR /src
COPY pyproject.toml uv.lock ./
COPY deploy/rootfs.sh /bin/
FROM scratch
COPY --from=first /src /lib
USER 10:10
"""


def test_stages_are_made_of_what_is_copied(tmp_path: Path) -> None:
    """Files into folders, folders by their content, from the repository and from a stage; other words are kept."""
    build = Build(DOCKERFILE, tmp_path)
    image = build.stage()
    assert build.stages["first"].variables == {"A": "1", "B": "two words"}
    assert (tmp_path / "first" / "bin" / "rootfs.sh").stat().st_mode == (ROOT / "deploy" / "rootfs.sh").stat().st_mode
    assert {path.name for path in image.files.rglob("*")} == {"lib", "pyproject.toml", "uv.lock"}
    assert image.words == {"USER": "10:10"}


def test_a_file_of_two_names_is_counted_once(tmp_path: Path) -> None:
    """As it is stored."""
    (tmp_path / "one").write_bytes(bytes(2_000_000))
    os.link(tmp_path / "one", tmp_path / "two")
    unpacked, packed = sizes(tmp_path)
    assert unpacked == 2.0
    assert packed < 0.1
