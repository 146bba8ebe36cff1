r"""Signed measures of filtrations: of the Hilbert function, the Euler characteristic, the rank invariant.

For a function :math:`h` on the grid of a filtration's values the measure is the one integer :math:`\mu` with
:math:`h(x) = \mu(\{y \le x\})`: differences of ``h`` along each axis. That of the Hilbert function :math:`h(x) = \dim
H_i(K_x)` has births with weight 1 and deaths with weight -1 where there is one parameter. The rank invariant
:math:`\mathrm{rank}(H_i(K_x) \to H_i(K_y))` is a sum of weighted rectangles :math:`1[b \le x]\, 1[y < d]`, points
:math:`(b, d)` of twice as many coordinates. The Euler characteristic's needs no homology: :math:`\mu = \sum_\sigma
(-1)^{\dim \sigma} \delta_{f(\sigma)}`.

**Derivatives.** Where the order of the values does not change, which engine is asked or not, each coordinate of each
point *is* one of the filtration's values. So the engine gets ranks and returns ranks, the points are gathered, and the
derivative is the gather's. Between orders, where values are equal, this is one element of the Clarke derivative.
"""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dini_zoo.kit.checking import at_least, known, one_of, within

from .complexes import Filtration, Order, all_cliques, ordered, out_of_order, ranked
from .engines import Engine, chosen, measured
from .reduction import NEVER

Invariant = Literal["hilbert", "euler", "rank"]
INVARIANTS = ("hilbert", "euler", "rank")


class SignedMeasure(NamedTuple):
    """A measure of points with weights of both signs, in arrays of a fixed size; it may be empty.

    What is not masked is padding: points of zeros with the weight zero. Where the filtration was NaN (or, of values
    that are traced, not monotone) there is one point, which is NaN.
    """

    points: Float[Array, "M n"]
    """Births and then deaths for rectangles, where a death may be infinite."""
    weights: Float[Array, " M"]
    mask: Bool[Array, " M"]
    owners: Int[Array, "M n"]
    """The place of each coordinate in the filtration's values of its parameter; -1 where none owns it."""
    tied: Bool[Array, " M"]
    """Whether a coordinate's value is another owner's too: the derivative is then one of several."""

    @property
    def count(self) -> Int[Array, ""]:
        """How many points there are."""
        return jnp.sum(self.mask)

    @property
    def total(self) -> Float[Array, ""]:
        """The sum of all weights: for the Hilbert function its value after all that enters."""
        return jnp.sum(self.weights)

    def capped(self, bounds: Any) -> Self:
        """The measure with coordinates of at most `bounds`, a number or one for each; the derivative ends there."""
        return self._replace(points=jnp.minimum(self.points, jnp.asarray(bounds, self.points.dtype)))


def signed_measure(
    filtration: Filtration,
    degree: int | None = None,
    invariant: Invariant = "hilbert",
    *,
    max_points: int = 256,
    engine: Engine = "auto",
) -> SignedMeasure:
    """The signed measure of a filtration in a degree of homology over Z/2; it can be jitted, mapped and differentiated.

    Parameters
    ----------
    filtration
        Of one to three parameters; for one, the measure is the barcode: its ends, or for ranks its bars.
    degree
        Of homology; none for the Euler characteristic, which is that of all listed simplices, or of all cliques up to
        the dimension of a Rips complex.
    invariant
        `"hilbert"`, `"euler"` or `"rank"`, which costs more and says more.
    max_points
        The room for points, unless it is the Euler characteristic: its measure has a point for each simplex.
    engine
        `"multipers"`, `"numpy"` (one or two parameters), or the first of them that is installed.

    Raises
    ------
    ValueError
        Where degree, invariant or engine are none of the possible ones, or the values are NaN (as far as it is known).
    RuntimeError
        At run time, where there are more points than `max_points`: the message has the count.
    ModuleNotFoundError
        Where multipers is needed and not installed.
    """
    one_of("invariant", invariant, INVARIANTS)
    if invariant == "euler":
        if degree is not None:
            raise ValueError(f"degree must be None for the Euler characteristic: given {degree}.")
        _check_owners(filtration)
        return _euler(filtration)
    _check_degree(filtration, degree)
    _check_owners(filtration)
    at_least("max_points", max_points, 1)
    for k, values in enumerate(filtration.values):
        if known(values) and np.any(np.isnan(values) | np.isneginf(values)):
            raise ValueError(f"filtration must have numbers as values: given NaN or -inf in parameter {k}.")
    name, most = chosen(engine, filtration.parameters)
    return _by_engine(filtration, name, most, int(degree), invariant, max_points)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4, 5))
def _by_engine(
    filtration: Filtration, engine: str, most: int | None, degree: int, invariant: str, room: int
) -> SignedMeasure:
    orders = tuple(map(ordered, filtration.values, filtration.floors))
    width = filtration.parameters * (2 if invariant == "rank" else 1)
    shape = lambda *axes: jax.ShapeDtypeStruct(axes, np.int32)
    host = functools.partial(_host, engine, most, degree, invariant, room, filtration.flag, filtration.monotone)
    bad = _bad(filtration)
    ranks = jax.lax.stop_gradient([one.ranks for one in orders])
    bare = Bare(filtration.cells, filtration.owners)
    shapes = (shape(room, width), shape(room), shape())
    places, weights, count = jax.pure_callback(host, shapes, ranks, bad, bare, vmap_method="sequential")
    return _gathered(filtration, orders, places, weights, jnp.arange(room) < count, bad | (count < 0))


class Bare(NamedTuple):
    """What the host is given of a filtration beside its ranks."""

    cells: tuple[Any, ...]
    owners: tuple[tuple[Any, ...], ...]
    flag: int = 0


def _check_degree(filtration: Filtration, degree: Any) -> None:
    if not isinstance(degree, int | np.integer) or degree < 0:
        raise ValueError(f"degree must be an integer from 0 on: given {degree!r}.")
    if filtration.flag and degree >= filtration.flag:
        raise ValueError(
            f"degree must be less than the dimension {filtration.flag} of the Rips complex: given {degree}. "
            "`rips_lower_star(..., dimension=...)` takes a larger one."
        )


def _check_owners(filtration: Filtration) -> None:
    for values, owners in zip(filtration.values, filtration.owners, strict=True):
        for one in owners:
            if known(one):
                within("owners", np.asarray(one) + 1, len(values) + 1)


def _bad(filtration: Filtration) -> Bool[Array, ""]:
    wrong = [jnp.any(jnp.isnan(values) | jnp.isneginf(values)) for values in filtration.values]
    return jnp.any(jnp.stack(wrong))


def _host(
    engine: str,
    most: int | None,
    degree: int,
    invariant: str,
    room: int,
    flag: int,
    monotone: bool,
    ranks: Any,
    bad: Any,
    bare: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ask the engine, on the host, in NumPy: places and weights in arrays of fixed size, and how many there are.

    A place is a rank, infinity the one after all others. A negative count says that there is no measure.
    """
    width = len(ranks) * (2 if invariant == "rank" else 1)
    places, weights = np.zeros((room, width), np.int32), np.zeros(room, np.int32)
    if bool(bad):
        return places, weights, np.array(-1, np.int32)
    complex = ranked(Bare(bare[0], bare[1], flag), ranks)
    if not monotone and out_of_order(complex) is not None:
        return places, weights, np.array(-1, np.int32)
    found = measured(engine, most, complex, degree, invariant)
    count = len(found.weights)
    if count > room:
        raise RuntimeError(f"max_points must be at least {count} for this signed measure: given {room}.")
    last = np.array([len(one) + 1 for one in ranks] * (width // len(ranks)), np.int32)
    places[:count] = np.where(found.places == NEVER, last, found.places)
    weights[:count] = found.weights
    return places, weights, np.array(count, np.int32)


def _gathered(
    filtration: Filtration, orders: tuple[Order, ...], places: Array, weights: Array, mask: Array, bad: Array
) -> SignedMeasure:
    """The measure whose coordinates are the values at some ranks."""
    columns = [orders[k % len(orders)] for k in range(places.shape[1])]
    dtype = functools.reduce(jnp.promote_types, (one.values.dtype for one in orders))
    pick = lambda part: jnp.stack([getattr(one, part)[places[:, k]] for k, one in enumerate(columns)], axis=1)
    points = jnp.where(mask[:, None], pick("values").astype(dtype), 0)
    first = jnp.arange(places.shape[0]) == 0
    # seen by whatever is computed of the measure, in the value and in the derivative
    mark = jnp.where(bad & first, jnp.nan, 0).astype(dtype)
    shares = [jnp.where(jnp.isfinite(one), one, 0) / one.size for one in filtration.values if one.size]
    poison = mark + mark * sum((jnp.sum(one).astype(dtype) for one in shares), jnp.zeros((), dtype))
    return SignedMeasure(
        points + poison[:, None],
        jnp.where(mask, weights, 0).astype(dtype) + poison,
        mask | (bad & first),
        jnp.where(mask[:, None], pick("places"), -1),
        mask & jnp.any(pick("ties"), axis=1),
    )


@jax.jit
def _euler(filtration: Filtration) -> SignedMeasure:
    """A point for each simplex."""
    filtration = all_cliques(filtration)
    orders = tuple(map(ordered, filtration.values, filtration.floors))
    ranks = [jnp.concatenate([jnp.zeros(1, jnp.int32), one.ranks]) for one in orders]
    # the rank of a simplex is the largest of its owners'; that of what is not there is beyond all
    found = [
        jnp.concatenate([jnp.max(one[jnp.asarray(places) + 1], axis=1) for places in owners])
        for one, owners in zip(ranks, filtration.owners, strict=True)
    ]
    places = jnp.stack([jnp.minimum(mine, len(one)) for mine, one in zip(found, ranks, strict=True)], axis=1)
    there = jnp.stack([mine < len(one) for mine, one in zip(found, ranks, strict=True)]).all(axis=0)
    there &= jnp.concatenate([jnp.all(jnp.asarray(one) >= 0, axis=1) for one in filtration.cells])
    signs = np.concatenate([np.full(one.shape[0], (-1) ** d) for d, one in enumerate(filtration.cells)])
    bad = _bad(filtration)
    if not filtration.monotone:
        ranks = jax.lax.stop_gradient([one.ranks for one in orders])
        bare = Bare(filtration.cells, filtration.owners)
        bad |= jax.pure_callback(_falls, jax.ShapeDtypeStruct((), bool), ranks, bare, vmap_method="sequential")
    return _gathered(filtration, orders, places, jnp.asarray(signs), there & ~bad, bad)


def _falls(ranks: Any, bare: Any) -> np.ndarray:
    """Whether a simplex comes before a face of it, on the host."""
    return np.array(out_of_order(ranked(Bare(bare[0], bare[1]), ranks)) is not None)


def cumulative(measure: SignedMeasure, x: Float[Array, "*m n"]) -> Float[Array, "*m"]:
    r"""The measure of what is at most `x`, :math:`\mu(\{y \le x\})`: the function that it is the measure of.

    A step function: its derivative is zero where it has one.

    Examples
    --------
    >>> from dini_zoo.topology.multiparameter_persistence import graph_filtration
    >>> measure = signed_measure(graph_filtration(jnp.array([0.0, 1.0]), jnp.array([[0, 1]])), invariant="euler")
    >>> print(cumulative(measure, jnp.array([[-1.0], [0.0], [1.0]])))  # the Euler characteristic
    [0. 1. 1.]
    """
    same_columns(measure, "x", x)
    below = jnp.all(measure.points <= jnp.asarray(x)[..., None, :], axis=-1)
    return jnp.sum(jnp.where(below & measure.mask, measure.weights, 0), axis=-1) + nan_if_bad(measure, x)


def rank_function(measure: SignedMeasure, x: Float[Array, "*m n"], y: Float[Array, "*m n"]) -> Float[Array, "*m"]:
    r"""The rank invariant at pairs :math:`x \le y`, from its measure: :math:`\sum_j w_j 1[b_j \le x] 1[y < d_j]`.

    Examples
    --------
    >>> from dini_zoo.topology.multiparameter_persistence import graph_filtration
    >>> filtration = graph_filtration(jnp.array([0.0, 1.0]), jnp.array([[0, 1]]))
    >>> measure = signed_measure(filtration, 0, "rank", engine="numpy", max_points=4)
    >>> print(rank_function(measure, jnp.array([[-1.0], [0.0]]), jnp.array([[0.0], [5.0]])))
    [0. 1.]
    """
    births, deaths = rectangles(measure)
    if np.shape(x)[-1] != births.shape[1] or np.shape(y)[-1] != births.shape[1]:
        raise ValueError(f"x and y must have {births.shape[1]} columns: given shapes {np.shape(x)} and {np.shape(y)}.")
    x, y = jnp.asarray(x)[..., None, :], jnp.asarray(y)[..., None, :]
    alive = jnp.all(births <= x, axis=-1) & jnp.all(y < deaths, axis=-1)
    return jnp.sum(jnp.where(alive & measure.mask, measure.weights, 0), axis=-1) + nan_if_bad(
        measure, x[..., 0, :], y[..., 0, :]
    )


def rectangles(measure: SignedMeasure) -> tuple[Float[Array, "M n"], Float[Array, "M n"]]:
    """The births and the deaths of a rank invariant's measure; `ValueError` if its columns are odd in number."""
    columns = measure.points.shape[1]
    if columns % 2:
        raise ValueError(f"measure must be a rank invariant's, of births and deaths: given {columns} columns.")
    return measure.points[:, : columns // 2], measure.points[:, columns // 2 :]


def same_columns(measure: SignedMeasure, name: str, x: Any) -> None:
    """Raise `ValueError` unless rows of `x` have as many coordinates as the points."""
    columns = measure.points.shape[1]
    if np.ndim(x) < 1 or np.shape(x)[-1] != columns:
        raise ValueError(f"{name} must have {columns} columns, as the points have: given shape {np.shape(x)}.")


def nan_if_bad(measure: SignedMeasure, *points: Any) -> Array:
    """NaN where the measure is, and at points that are."""
    bad = [jnp.isnan(jnp.asarray(one)).any(axis=-1) for one in points]
    bad.append(jnp.any(jnp.isnan(measure.points) & measure.mask[:, None]))
    return sum((jnp.where(one, jnp.nan, 0.0) for one in bad), jnp.sum(measure.weights * 0))
