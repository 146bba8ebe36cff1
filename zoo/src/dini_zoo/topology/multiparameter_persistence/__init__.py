"""Persistent homology by several parameters at once, with derivatives: by scale and density, by several functions.

`rips_lower_star`, `graph_filtration`, `cubical_filtration` and `simplicial_filtration` make filtrations;
`signed_measure` and `multiparameter_landscape` are their descriptors; `linear_functional`, `gaussian_vectorize`,
`sliced_wasserstein` and `kantorovich_rubinstein` make vectors and losses of these. An engine on the host (multipers, or
a small one in NumPy) finds which value each coordinate is; all else is JAX. The experiment is in `study`, what it
prints in `report`.
"""

from .complexes import Filtration
from .distances import Transport, kantorovich_rubinstein, sliced_wasserstein, transport
from .engines import Engine, has_multipers
from .filtrations import (
    codensity,
    cubical_filtration,
    graph_batch,
    graph_filtration,
    rips_lower_star,
    simplicial_filtration,
)
from .landscapes import landscape, multiparameter_landscape
from .measures import SignedMeasure, cumulative, rank_function, signed_measure
from .vectorizations import TopologicalLoss, gaussian_vectorize, linear_functional

__all__ = [
    "Engine",
    "Filtration",
    "SignedMeasure",
    "TopologicalLoss",
    "Transport",
    "codensity",
    "cubical_filtration",
    "cumulative",
    "gaussian_vectorize",
    "graph_batch",
    "graph_filtration",
    "has_multipers",
    "kantorovich_rubinstein",
    "landscape",
    "linear_functional",
    "multiparameter_landscape",
    "rank_function",
    "rips_lower_star",
    "signed_measure",
    "simplicial_filtration",
    "sliced_wasserstein",
    "transport",
]
