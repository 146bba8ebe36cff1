"""Smooth diffusion: a penalty under which samples change evenly with their noise, trained as low-rank adapters.

`variation_norm` and `variation_penalty` are for any generator, `smooth_loss` is that of a diffusion; adapters are in
`kit.adapters`, samplers in `diffusion.chain_sampling`. `interpolation_std` measures walks between noises. What the
experiment does is in `study`, what it prints in `report`.
"""

from .measures import Smoothness, even_ratios, interpolation_std, neighbor_distances, walk
from .regularizer import (
    Parts,
    VariationEMA,
    data_of_noise,
    smooth_loss,
    variation_norm,
    variation_penalty,
)

__all__ = [
    "Parts",
    "Smoothness",
    "VariationEMA",
    "data_of_noise",
    "even_ratios",
    "interpolation_std",
    "neighbor_distances",
    "smooth_loss",
    "variation_norm",
    "variation_penalty",
    "walk",
]
