"""A kernel that ``image_inside`` compiles; Triton reads it from its file."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def add(x, y, n, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + place, tl.load(x + place, mask=place < n) + tl.load(y + place, mask=place < n), mask=place < n)
