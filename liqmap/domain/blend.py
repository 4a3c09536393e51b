"""Intensity: what a picture shows where evidence and projection meet. Display only; no logic reads it.

docs/model.md, blend: each source scaled by its own 99th percentile, 0.35 evidence + 0.65 projection, cells where both
stand out boosted, clipped at 1.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

EVIDENCE_SHARE: Final = 0.35
PROJECTION_SHARE: Final = 0.65
BOTH_ABOVE: Final = 1e-4
BOTH_BOOST: Final = 1.5
PERCENTILE: Final = 99.0


@dataclass(frozen=True, slots=True)
class Blend:
    """`intensity[side, cell]` in 0..1, and the dollars that each source was scaled by (NaN: it holds none)."""

    intensity: NDArray[np.float64]
    evidence_p99_usd: float
    projection_p99_usd: float


def blend(projection_usd: Floats, evidence_usd: Floats) -> Blend:
    """Blend `projection_usd[side, cell]` and `evidence_usd[side, cell]`, dollars.

    The percentile is taken over the cells that hold dollars, of both sides together, so that the sides compare. A
    projection that is unknown (NaN) leaves the evidence alone, at its full scale.
    """
    known = bool(np.isfinite(projection_usd).any())
    projection, projection_p99 = _scaled(projection_usd)
    evidence, evidence_p99 = _scaled(evidence_usd)
    if not known:
        return Blend(evidence, evidence_p99, projection_p99)
    intensity = EVIDENCE_SHARE * evidence + PROJECTION_SHARE * projection
    intensity[(evidence > BOTH_ABOVE) & (projection > BOTH_ABOVE)] *= BOTH_BOOST
    return Blend(np.minimum(intensity, 1.0), evidence_p99, projection_p99)


def _scaled(dollars: Floats) -> tuple[NDArray[np.float64], float]:
    held = np.nan_to_num(np.asarray(dollars, dtype=np.float64))
    positive = held[held > 0]
    if positive.size == 0:
        return np.zeros_like(held), float("nan")
    scale = float(np.percentile(positive, PERCENTILE))
    return np.minimum(held / scale, 1.0), scale
