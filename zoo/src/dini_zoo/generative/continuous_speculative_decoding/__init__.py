"""Continuous speculative decoding: a small model drafts tokens that are vectors, a large one checks them in parallel.

`accept_resample` makes of a draw of one law a draw of another, for densities, Gaussians and logits.
`speculative_decode` decodes whole sequences of a `Model`, a trunk with a diffusion head such as `GaussianHead`, and
counts in `SpeculativeStats`; `sequential_decode` is what it is compared with. `overlap` says how much is accepted. The
experiment is in `study`, what it prints and draws in `report` and `picture`.
"""

from .acceptance import Resampled, accept_resample
from .decoding import Decoded, Model, SpeculativeStats, sequential_decode, speculative_decode
from .gaussians import Gaussian, overlap, reflected
from .heads import GaussianHead, Head, LastStep

__all__ = [
    "Decoded",
    "Gaussian",
    "GaussianHead",
    "Head",
    "LastStep",
    "Model",
    "Resampled",
    "SpeculativeStats",
    "accept_resample",
    "overlap",
    "reflected",
    "sequential_decode",
    "speculative_decode",
]
