"""Whether a map is as symmetric as it is declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..status import DerivativeError, OnFailure, Report, Status, guard
from ..trees import Tree
from ._protocol import Matvec, Structure


def asymmetry(matvec: Matvec, like: Tree) -> jax.Array:
    r"""Return :math:`|\langle w, S v\rangle - \langle v, S w\rangle|` for two fixed vectors, relative to its terms.

    :math:`S = D A D` is the map in units in which its rows are of one size: a block of small elements counts as much as
    one of large elements.
    """
    v, w = trees.varied(like), trees.signs(like)
    rows = jax.tree.map(jnp.abs, matvec(v))
    least = trees.eps(like) * trees.max_abs(rows)
    rows = jax.tree.map(lambda size: jnp.maximum(size, least.astype(size.dtype)), rows)
    units = jax.tree.map(lambda size: jax.lax.rsqrt(jnp.where(size > 0, size, 1)), rows)

    def scaled(u: Tree) -> Any:
        return jax.tree.map(jnp.multiply, units, matvec(jax.tree.map(jnp.multiply, units, u)))

    image, other = jax.lax.stop_gradient((scaled(v), scaled(w)))
    gap = jnp.abs(trees.vdot(w, image) - trees.vdot(v, other))
    scale = trees.norm(w) * trees.norm(image) + trees.norm(v) * trees.norm(other)
    return gap / jnp.where(scale > 0, scale, 1)


def require_symmetric(
    value: Any, matvec: Matvec, like: Tree, structure: Structure, on_failure: OnFailure, what: str, where: str
) -> Any:
    """Return a value, guarded by a test of the symmetry that a user has declared of ``what``.

    ``where`` names the declaration.
    """
    if structure is None or not jax.tree.leaves(like):
        return value
    return require_small(value, asymmetry(matvec, like), like, structure, on_failure, what, where)


def require_small(
    value: Any, relative: Any, like: Tree, structure: Structure, on_failure: OnFailure, what: str, where: str
) -> Any:
    """Return a value, guarded by what :func:`asymmetry` found."""
    report = _Asymmetric(what, str(structure), where)
    return guard(value, ~(relative <= trees.eps(like) ** 0.5), report, (relative[None],), on_failure)


@dataclass(frozen=True)
class _Asymmetric(Report):
    what: str
    structure: str
    where: str

    def __call__(self, *figures: Any) -> DerivativeError:
        return DerivativeError(
            f"{self.what} is declared {self.structure} but is not: with rows scaled to the same size, "
            f"<w, A v> and <v, A w> have the relative difference {float(figures[0][0]):.1e}. Leave the "
            f"declaration out ({self.where}).",
            Status.CONDITION,
        )
