"""Private-GSD: a synthetic table whose answers match noisy ones of a sensitive table, found without derivatives.

`Domain` and `Table` say what the data are, `categorical_marginals`, `mixed_marginals`, `prefix_queries`,
`half_space_queries` and `Union` what is to be matched. `fit_private_gsd` does all of it; its steps are
`measure_one_shot`, `select_and_measure` and `genetic_search`, whose changes are those of `Operators` or of a `Bandit`.
`private_bins` chooses bins of real columns for `binned_marginals`. `relaxed_projection` (RAP, RAP++) and
`graphical_answers` (PGM) are baselines. Budgets and the ledger are those of the field. The experiment is in `study`,
its parts in `parts`, what it prints in `report`.
"""

from .bandit import Bandit
from .bins import BinnedMarginals, Bins, binned_marginals, bins_share, private_bins
from .domains import Categorical, Domain, Real, Table
from .fitting import Fit, fit_private_gsd
from .graphical import graphical_answers
from .measuring import Measurements, gumbel_scale, gumbel_top_k, measure_one_shot, select_and_measure
from .queries import (
    HalfSpaces,
    Marginals,
    Prefixes,
    Queries,
    Union,
    categorical_marginals,
    half_space_queries,
    mixed_marginals,
    prefix_queries,
)
from .relaxation import Projected, Relaxed, relaxed_projection
from .search import Found, Operators, genetic_search

__all__ = [
    "Bandit",
    "BinnedMarginals",
    "Bins",
    "Categorical",
    "Domain",
    "Fit",
    "Found",
    "HalfSpaces",
    "Marginals",
    "Measurements",
    "Operators",
    "Prefixes",
    "Projected",
    "Queries",
    "Real",
    "Relaxed",
    "Table",
    "Union",
    "binned_marginals",
    "bins_share",
    "categorical_marginals",
    "fit_private_gsd",
    "genetic_search",
    "graphical_answers",
    "gumbel_scale",
    "gumbel_top_k",
    "half_space_queries",
    "measure_one_shot",
    "mixed_marginals",
    "prefix_queries",
    "private_bins",
    "relaxed_projection",
    "select_and_measure",
]
