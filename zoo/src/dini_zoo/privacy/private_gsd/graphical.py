"""The baseline of graphical models (Private-PGM), by its authors' library: categorical columns, small cliques."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least

from .measuring import Measurements
from .queries import Marginals


def graphical_answers(measurements: Measurements, n: int, iterations: int = 1000) -> Float[Array, " q"]:
    """Answers of the graphical model that fits noisy marginals best, by mirror descent in double precision.

    Parameters
    ----------
    measurements
        Of marginals whose columns are all categorical, each of them measured. Noisy answers are taken as they are.
    n
        Rows of the table that was measured.
    iterations
        Of `mbi.estimation.MirrorDescent`.

    Raises
    ------
    ValueError
        Where a marginal has a real column, or was not measured.
    ModuleNotFoundError
        Without `mbi` (the extra `privacy`).

    References
    ----------
    McKenna, Sheldon and Miklau, "Graphical-model based estimation and inference for differential privacy", ICML 2019
    (arXiv 1901.09136).
    """
    at_least("n", n, 1)
    at_least("iterations", iterations, 1)
    queries = measurements.queries
    if not isinstance(queries, Marginals) or not np.all(np.array(queries.domain.sizes)[queries.columns] > 0):
        raise ValueError("measurements must be of marginals of categorical columns: given others.")
    if not measurements.measured.all():
        raise ValueError("measurements must have every workload: given some that were not measured.")
    names, sizes = queries.domain.names, queries.domain.sizes
    with jax.enable_x64(True):
        with warnings.catch_warnings():
            # it warns of single precision and of JAX's cache as it is imported
            warnings.simplefilter("ignore")
            import mbi
            from mbi.estimation import MirrorDescent
        cliques = [tuple(names[j] for j in one) for one in np.asarray(queries.columns)]
        counts = np.split(n * np.asarray(measurements.noisy, float), queries.offsets[1:])
        used = [name for name in names if any(name in one for one in cliques)]
        noisy = [
            mbi.LinearMeasurement(one, clique, stddev=float(sigma * n))
            for one, clique, sigma in zip(counts, cliques, measurements.sigmas, strict=True)
        ]
        domain = mbi.Domain(used, [sizes[names.index(name)] for name in used])
        model = MirrorDescent().estimate(domain, noisy, known_total=float(n), iters=iterations)
        answers = np.concatenate([np.asarray(model.project(clique).datavector()) for clique in cliques]) / n
    return jnp.asarray(answers)
