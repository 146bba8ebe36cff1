r"""One check of a draft by the target: which tokens stay, and what takes the place of the others.

Given the noise :math:`\xi` of a diffusion head, which both models share, a token's law is a Gaussian under either. So
speculative sampling of these two, conditional on :math:`\xi`, has the target's law given :math:`\xi`, and without it:
this is the *exact* rule, with the ratio :math:`r = p_\xi(x) / q_\xi(x)`. The *published* rule multiplies it by

.. math:: \Sigma = \prod_{t = 2}^{T} \det S_t^q / \det S_t^p,

which is 1 for equal variances. For others its tokens have, with :math:`m = \min(q_\xi, \Sigma p_\xi)` and
:math:`A = \int m`, the law

.. math:: m\, \frac{\Sigma - 1}{\Sigma - A} + p_\xi\, \frac{\Sigma (1 - A)}{\Sigma - A}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .acceptance import accepts, reflection, rejection
from .gaussians import Gaussian, log_ratio
from .heads import LastStep


class Rule(eqx.Module):
    """The test of a draft, and how its residual is drawn; see :func:`.speculative_decode`."""

    name: Literal["exact", "published"] = eqx.field(static=True)
    residual: Literal["rejection", "reflection"] = eqx.field(static=True)
    max_proposals: int = eqx.field(static=True)
    relax: Any

    def ratio(self, q: LastStep, p: LastStep) -> Callable[[Array], Array]:
        r""":math:`\log r`, as a function of the draft."""
        scale: Any = 0.0
        if self.name == "published":
            if q.log_scale is None or p.log_scale is None:
                raise ValueError("The published rule needs heads whose last_step has a log_scale: given None.")
            scale = q.log_scale - p.log_scale
        one, other = Gaussian(q.mean, q.std), Gaussian(p.mean, p.std)
        return lambda x: scale + log_ratio(one, other, x, self.relax)

    def accepted(self, key: Array, drafts: Array, q: LastStep, p: LastStep) -> Array:
        """Of each draft; never where the ratio is NaN."""
        one = lambda key, x, q, p: accepts(key, self.ratio(q, p)(x))
        return jax.vmap(one)(jax.random.split(key, len(drafts)), drafts, q, p)

    def resampled(self, key: Array, x: Array, q: LastStep, p: LastStep, needed: Array) -> tuple[Array, Array]:
        """A draw of the residual, NaN where there is none, and how many proposals it took."""
        one, other, ratio = Gaussian(q.mean, q.std), Gaussian(p.mean, p.std), self.ratio(q, p)
        if self.residual == "reflection":
            y, count, failed = reflection(one, other, x)
        else:
            y, count, failed = rejection(key, ratio, other.sample, needed, self.max_proposals)
        return jnp.where(failed | jnp.isnan(ratio(x)), jnp.nan, y), count

    def __call__(self, key: Array, x: Array, q: LastStep, p: LastStep) -> tuple[Array, Array, Array]:
        """A single token: the draft or a draw of the residual, whether it is the draft, and proposals."""
        for_test, for_residual = jax.random.split(key)
        accepted = accepts(for_test, self.ratio(q, p)(x))
        other, proposals = self.resampled(for_residual, x, q, p, ~accepted)
        return jnp.where(accepted, x, other), accepted, proposals


class Checked(NamedTuple):
    """What a check leaves."""

    tokens: Float[Array, "L d"]
    taken: Int[Array, ""]
    """How many more of them are drawn."""
    accepted: Int[Array, ""]
    tested: Int[Array, ""]
    proposals: Int[Array, ""]


def left_to_right(
    key: Array, rule: Rule, q: LastStep, p: LastStep, drafts: Array, tokens: Array, i: Array, count: Array
) -> Checked:
    """Keep drafts up to the first that is rejected, and add one token: of the residual there, else the target's own.

    The first `count` of the drafts, from position `i` on, are tested; `p` has one law more than `q`.
    """
    for_tests, for_residual, for_own = jax.random.split(key, 3)
    passed = rule.accepted(for_tests, drafts, q, first_of(p, len(drafts)))
    passed = passed & (jnp.arange(len(drafts)) < count)
    kept = jnp.sum(jnp.cumprod(passed))
    rejected = kept < count
    here = jnp.minimum(kept, len(drafts) - 1)
    law = at(p, kept)
    other, proposals = rule.resampled(for_residual, drafts[here], at(q, here), law, rejected)
    own = Gaussian(law.mean, law.std).sample(for_own)
    tokens = tokens.at[i + kept].set(jnp.where(rejected, other, own))
    return Checked(tokens, kept + 1, kept, kept + rejected, proposals)


def in_place(
    key: Array, rule: Rule, q: LastStep, p: LastStep, drafts: Array, tokens: Array, i: Array, count: Array
) -> Checked:
    """Test all drafts, replace each that is rejected, and keep those after it, although their context has changed."""
    for_tests, for_residual, for_own = jax.random.split(key, 3)
    places = jnp.arange(len(drafts))
    there = first_of(p, len(drafts))
    passed = rule.accepted(for_tests, drafts, q, there)
    needed = ~passed & (places < count)
    keys = jax.random.split(for_residual, len(drafts))
    others, proposals = jax.vmap(rule.resampled)(keys, drafts, q, there, needed)
    # those that do not count are put where the free token goes, or beyond the end
    tokens = tokens.at[i + places].set(jnp.where(passed[:, None], drafts, others), mode="drop")
    law = at(p, count)
    tokens = tokens.at[i + count].set(Gaussian(law.mean, law.std).sample(for_own))
    return Checked(tokens, count + 1, jnp.sum(passed & (places < count)), count, jnp.sum(proposals))


def at(tree: Any, i: Any) -> Any:
    """Entry `i` of each array; the last one for a greater `i`."""
    return jax.tree.map(lambda leaf: leaf.at[i].get(mode="clip"), tree)


def first_of(tree: Any, n: int) -> Any:
    """The first entries of each array."""
    return jax.tree.map(lambda leaf: leaf[:n], tree)
