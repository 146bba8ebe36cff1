"""Single tokens after contexts: how often a draft is accepted, and whether what is returned has the target's law."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy import stats

from . import closed_form
from .acceptance import MAX_PROPOSALS
from .gaussians import Gaussian, overlap
from .verification import Rule

#: Of learned variances, how far the draft's are from the smaller to the larger ones; the target has the smaller.
BETWEEN = 0.2


@dataclass(frozen=True)
class Tokens:
    """What was found with one seed; distances are Kolmogorov's and Smirnov's, to tokens of the target alone."""

    aligned: float
    """How often a draft is accepted that shares its noise with the target."""
    unaligned: float
    overlap: float
    """The mean of the overlap, which is what `aligned` estimates."""
    distances: dict[str, float]
    proposals: float
    """Of the rejection loop, for each token."""
    most: int
    """The greatest number of them."""
    sigma: float
    """The median of the published rule's factor, where the draft has other variances."""


def program() -> Callable[[Array], Any]:
    """Of many keys: tokens of each kind, and what is counted."""
    target, draft = (closed_form.head(line) for line in (closed_form.TARGET, closed_form.DRAFT))
    wider = closed_form.head(closed_form.DRAFT, BETWEEN)
    exact, mirror, published = (
        Rule(name, residual, MAX_PROPOSALS, 1.0)
        for name, residual in (("exact", "rejection"), ("exact", "reflection"), ("published", "rejection"))
    )

    def token(key: Array) -> Any:
        keys = jax.random.split(key, 10)
        y = jax.random.normal(keys[0], (1,))
        noise, other = (jax.random.normal(key, draft.noise_shape) for key in keys[1:3])
        q, p, independent = draft.last_step(noise, y), target.last_step(noise, y), target.last_step(other, y)
        x = Gaussian(q.mean, q.std).sample(keys[3])
        law = wider.last_step(noise, y)
        wide = Gaussian(law.mean, law.std).sample(keys[3])
        tried = {
            "rejection": exact(keys[4], x, q, p),
            "reflection": mirror(keys[5], x, q, p),
            "unaligned": exact(keys[6], x, q, independent),
            "other variances, exact": exact(keys[7], wide, law, p),
            "other variances, published": published(keys[7], wide, law, p),
        }
        alone = target.sample(keys[8], jax.random.normal(keys[9], (1,)))
        shared = overlap(Gaussian(q.mean, q.std), Gaussian(p.mean, p.std))
        return tried, x, alone, shared, jnp.exp(law.log_scale - p.log_scale)

    # in pieces, each of which waits for its own slowest loop only
    return jax.jit(lambda keys: jax.lax.map(token, keys, batch_size=min(1000, len(keys))))


def drawn(program: Callable[[Array], Any], key: Array, n: int) -> Tokens:
    """So many tokens."""
    tried, x, alone, shared, sigma = jax.tree.map(np.asarray, program(jax.random.split(key, n)))
    away = lambda one: float(stats.ks_2samp(one[:, 0], alone[:, 0]).statistic)
    distances = {name: away(values) for name, (values, _, _) in tried.items()}
    proposals = tried["rejection"][2]
    return Tokens(
        aligned=float(tried["rejection"][1].mean()),
        unaligned=float(tried["unaligned"][1].mean()),
        overlap=float(shared.mean()),
        distances={**distances, "draft": away(x)},
        proposals=float(proposals.mean()),
        most=int(proposals.max()),
        sigma=float(np.median(sigma)),
    )
