"""How the kernels multiply bfloat16 here, and why not faster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from logitscope import _native

_CPU = Path("/proc/cpuinfo")


def products_of_bfloat16() -> Literal["tiles", "pairs"] | None:
    """In tiles (AMX), in pairs (AVX512-BF16), or widened to float32: None."""
    if not _native.has_bf16_products():
        return None
    return "tiles" if _native.has_bf16_tiles() else "pairs"


def bfloat16_refusals() -> list[str]:
    """What a CPU has, or could have, for bfloat16 and attention does not use, and why."""
    products = products_of_bfloat16()
    if products is None:
        refused = [
            "bfloat16 is widened to float32: the instruction set in use has no products of it (AVX512-BF16)"
        ]
    else:
        refused = []
    try:
        flags = _CPU.read_text(encoding="utf-8").split()
    except OSError:
        flags = []
    if "amx_bf16" in flags and products != "tiles":
        refused.append(f"the AMX tiles of this CPU are not used: {_why_no_tiles(products)}")
    return refused


def _why_no_tiles(products: str | None) -> str:
    if products is None:
        return "an instruction set was chosen by name"
    if os.environ.get("LOGITSCOPE_AMX") == "0":
        return "LOGITSCOPE_AMX is 0"
    return "the system does not let this process use them (arch_prctl)"
