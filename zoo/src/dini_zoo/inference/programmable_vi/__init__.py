"""Variational inference in which the objective and the estimator of its gradient are programs.

A program draws by `sample`, each choice with a strategy for its derivative; `expectation` makes of it an estimate whose
derivatives are unbiased, `simulate` runs it. `gen` gives a program a density, `marginal` and `normalize` make further
distributions of such programs, and `elbo` and similar ones are objectives. The experiment is in `study`.
"""

from .distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Dirichlet,
    Distribution,
    Exponential,
    Gamma,
    Geometric,
    Gumbel,
    Laplace,
    Logistic,
    LogNormal,
    MvNormal,
    MvNormalDiag,
    Normal,
    Poisson,
    Uniform,
    from_library,
)
from .expectation import Expectation, expectation, simulate
from .fitting import Fit, fit
from .generative import GenerativeFunction, Trace, gen
from .importance import Algorithm, Enumerate, ImportanceSampler, Target, given, marginal, normalize
from .objectives import elbo, hvi_elbo, iwelbo, vimco, wake_phi, wake_theta
from .sites import add_cost, detached, sample
from .strategies import Strategy, average, enumerate_, implicit, measure_valued, reinforce, reparam

__all__ = [
    "Algorithm",
    "Bernoulli",
    "Beta",
    "Categorical",
    "Dirichlet",
    "Distribution",
    "Enumerate",
    "Expectation",
    "Exponential",
    "Fit",
    "Gamma",
    "GenerativeFunction",
    "Geometric",
    "Gumbel",
    "ImportanceSampler",
    "Laplace",
    "LogNormal",
    "Logistic",
    "MvNormal",
    "MvNormalDiag",
    "Normal",
    "Poisson",
    "Strategy",
    "Target",
    "Trace",
    "Uniform",
    "add_cost",
    "average",
    "detached",
    "elbo",
    "enumerate_",
    "expectation",
    "fit",
    "from_library",
    "gen",
    "given",
    "hvi_elbo",
    "implicit",
    "iwelbo",
    "marginal",
    "measure_valued",
    "normalize",
    "reinforce",
    "reparam",
    "sample",
    "simulate",
    "vimco",
    "wake_phi",
    "wake_theta",
]
