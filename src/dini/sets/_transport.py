r"""Transportation polytopes.

Both projections have the form of a dual solution: :math:`P = [\alpha \oplus \beta + Y]_+` in the Euclidean geometry,
:math:`P = \exp(f \oplus g + Y)` in the entropy geometry, with :math:`(\alpha \oplus \beta)_{ij} = \alpha_i + \beta_j`.
In both, the matrix of Newton's method and of the derivative is, with a nonnegative matrix ``M`` (a mask, or ``P``),

.. math::
    H = \begin{pmatrix} \mathrm{diag}(M 1) & M \\ M^\top & \mathrm{diag}(M^\top 1) \end{pmatrix},

which is positive semidefinite and always singular along :math:`(1, -1)`: the sums of the marginals agree.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import trees
from ..checks.records import record
from ..checks.settings import known, require_all_positive
from ..deferred import Array, Float
from ..explanations import ends
from ..numerics.separable import smallest
from ..status import SolveError, Status
from ..trees import Tree
from ..trees.products import dot
from ._base import Set, believed, hold_arrays, require_real


class _System(NamedTuple):
    """The system of ``M``, factorized after the rows are eliminated; ``M`` has no fewer rows than columns."""

    M: jax.Array
    rows: jax.Array
    columns: jax.Array
    ridge: jax.Array
    factor: jax.Array

    @classmethod
    def of(cls, M: jax.Array, extra: Any = 0.0) -> _System:
        rows, columns = jnp.sum(M, axis=1), jnp.sum(M, axis=0)
        top = jnp.maximum(jnp.max(rows), jnp.max(columns))
        eps = jnp.finfo(M.dtype).eps
        ridge = jnp.maximum(32 * sum(M.shape) * eps * top, jnp.finfo(M.dtype).tiny) + extra
        # the diagonal less what eliminating the rows takes from it
        schur = jnp.diag(columns + ridge) - dot(M.T, M / (rows + ridge)[:, None])
        return cls(M, rows, columns, ridge, jax.lax.linalg.cholesky(schur, symmetrize_input=False))

    def ridged(self, r: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Solve with the ridge added."""
        lead = r / (self.rows + self.ridge)
        v = jax.scipy.linalg.cho_solve((self.factor, True), s - dot(self.M.T, lead), check_finite=False)
        return lead - dot(self.M, v) / (self.rows + self.ridge), v

    def solve(self, r: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Solve without the ridge, whose error each repetition shrinks, less the part that no solution has."""
        surplus = (jnp.sum(r) - jnp.sum(s)) / (r.size + s.size)
        r, s = r - surplus, s + surplus
        u, v = self.ridged(r, s)
        for _ in range(2):
            du, dv = self.ridged(r - self.rows * u - dot(self.M, v), s - dot(self.M.T, u) - self.columns * v)
            u, v = u + du, v + dv
        return u, v


def _sums(P: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.sum(P, axis=1), jnp.sum(P, axis=0)


def _outer(u: jax.Array, v: jax.Array) -> jax.Array:
    return u[:, None] + v[None, :]


def _threshold(Y: jax.Array, a: jax.Array) -> jax.Array:
    """Return shifts with which the positive parts of each row sum to its marginal, or to a little more."""
    return -jnp.maximum(jnp.mean(Y, axis=1) - a / Y.shape[1], jnp.max(Y, axis=1) - a)


def _search(Z: jax.Array, D: jax.Array, linear: jax.Array) -> jax.Array:
    r"""Return where the dual is (nearly) largest along a direction: a zero of its decreasing derivative.

    The derivative is :math:`\ell - \sum_{ij} [Z + t D]_+ D`, piecewise linear in ``t``. Half of it is enough: on 10 x
    10 to 100 x 100 random problems, a search to a tenth took 1 to 19 % longer in all.
    """
    start = linear - jnp.sum(jnp.maximum(Z, 0) * D)
    inf = jnp.asarray(jnp.inf, Z.dtype)

    def body(carry: Any) -> Any:
        count, t, low, high, _ = carry
        moved = Z + t * D
        slope = linear - jnp.sum(jnp.maximum(moved, 0) * D)
        curvature = jnp.sum(jnp.where(moved > 0, D * D, 0))
        low, high = jnp.where(slope > 0, t, low), jnp.where(slope > 0, high, t)
        new = t + slope / jnp.where(curvature > 0, curvature, 1)
        inside = (new > low) & (new < high) & (curvature > 0)
        new = jnp.where(inside, new, jnp.where(jnp.isfinite(high), 0.5 * (low + high), 2 * t))
        done = jnp.abs(slope) <= 0.5 * jnp.abs(start)
        return count + 1, jnp.where(done, t, new), low, high, done

    one = jnp.ones((), Z.dtype)
    first = (jnp.zeros((), jnp.int32), one, jnp.zeros((), Z.dtype), inf, jnp.asarray(False))
    return jax.lax.while_loop(lambda c: ~c[-1] & (c[0] < 10), body, first)[1]


@jax.jit
def _euclidean_dual(Y: jax.Array, a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return a dual solution, by a regularized semismooth Newton method with an exact line search, and its steps."""
    m, n = Y.shape
    eps = jnp.finfo(Y.dtype).eps
    scale = jnp.max(jnp.abs(Y)) + jnp.max(a) + jnp.max(b)
    b = b + (jnp.sum(a) - jnp.sum(b)) / n

    def lack(alpha: jax.Array, beta: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return what rows and columns lack, and the largest of it."""
        rows, columns = _sums(jnp.maximum(Y + _outer(alpha, beta), 0))
        r, s = a - rows, b - columns
        return r, s, jnp.maximum(jnp.max(jnp.abs(r)), jnp.max(jnp.abs(s)))

    def body(carry: Any) -> Any:
        count, alpha, beta, (r, s, error), damping, stalls, _ = carry
        Z = Y + _outer(alpha, beta)
        # where the mask falls apart, undamped steps have no bound
        system = _System.of((Z > 0).astype(Y.dtype), damping * error / scale)
        u, v = system.ridged(r, s)
        t = _search(Z, _outer(u, v), dot(a, u) + dot(b, v))
        damping = jnp.clip(jnp.where((t > 0.5) & (t < 2), damping / 4, damping * 2), 1e-8, 10)
        new = (alpha + t * u, beta + t * v)
        short = lack(*new)
        # The last digits need not be reachable; earlier, an error that rises is on its way. From where little but
        # rounding is left, a step may go anywhere.
        worse = (short[2] >= error) & ((short[2] < 1000 * tiny) | (error < 100 * tiny))
        stalls = stalls + worse
        alpha, beta = (jnp.where(stalls >= patience, *pair) for pair in zip((alpha, beta), new, strict=True))
        return count + 1, alpha, beta, short, damping, stalls, ~(short[2] > tiny) | (stalls >= patience)

    # in single precision a hundred times the rounding is far from the plan
    patience = 1 if eps < 1e-10 else 5
    tiny = (m + n) * eps * scale
    alpha, beta = _threshold(Y, a), jnp.zeros(n, Y.dtype)
    short = lack(alpha, beta)
    none = jnp.zeros((), jnp.int32)
    start = (none, alpha, beta, short, jnp.asarray(0.1, Y.dtype), none, ~(short[2] > tiny))
    count, alpha, beta, *_ = jax.lax.while_loop(lambda c: ~c[-1] & (c[0] < 500), body, start)
    return alpha, beta, count


def _euclidean(Y: jax.Array, a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array, _System]:
    """Return the projection, ``Y`` plus dual variables (a constant), and the system on the support."""
    alpha, beta, _ = jax.lax.stop_gradient(_euclidean_dual(*jax.lax.stop_gradient((Y, a, b))))
    Z = Y + _outer(alpha, beta)
    support = Z > 0
    system = _System.of(support.astype(Y.dtype))
    # solved once more on the support, where the projection is affine in the point and the marginals
    rows, columns = _sums(jnp.where(support, Z, 0))
    P = Z + _outer(*system.solve(a - rows, b - columns))
    return jnp.where(support, jnp.maximum(P, 0), 0), Z, system


@jax.jit
def _entropic_dual(Y: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the projection in the entropy geometry: the better of a Newton step and a Sinkhorn step, repeated.

    The rows are always scaled to their marginals. The error, the variation of the logarithms of what the columns lack,
    never grows in a Sinkhorn step. A point with a wide range is first solved at a range where that is easy, which is
    then doubled until it is the point's own.

    Where a plan is close to a vertex, it nearly falls apart into blocks, between which much may have to be shifted.
    Newton steps are then far too long, and the error shows a shift of blocks only once their links have grown: where it
    falls slowly, steps are limited, and the better one is that of the larger dual value.
    """
    n = Y.shape[1]
    eps = jnp.finfo(Y.dtype).eps
    b = b * (jnp.sum(a) / jnp.sum(b))
    log_a, log_b = jnp.log(a), jnp.log(b)
    itself = jnp.eye(n, dtype=bool)
    inverse = jnp.where(a > 0, 1 / jnp.where(a > 0, a, 1), 0)

    def plan(g: jax.Array, range_: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Return the plan, what its columns lack as logarithms, the error, and the dual's value."""
        logits = range_ * Y + barred
        f = jnp.where(a > 0, log_a - jax.nn.logsumexp(logits + g[None, :], axis=1), -jnp.inf)
        log_P = logits + _outer(f, g)
        lack = jnp.where(b > 0, log_b - jax.nn.logsumexp(log_P, axis=0), 0)
        value = jnp.sum(jnp.where(a > 0, a * f, 0)) + jnp.sum(jnp.where(b > 0, b * g, 0))
        return jnp.exp(log_P), lack, jnp.max(lack) - jnp.min(lack), value

    def body(carry: Any) -> Any:
        count, range_, g, P, lack, error, slow, _ = carry
        columns = jnp.sum(P, axis=0)
        # Each diagonal element is the sum of the links to other columns. Close to a vertex these are weak, and as what
        # the rows leave of a column the sum would drown in rounding: the matrix would not be definite.
        links = jnp.where(itself, 0, dot(P.T, inverse[:, None] * P))
        diagonal = jnp.sum(links, axis=0) + 32 * n * eps * columns + jnp.finfo(Y.dtype).tiny
        hessian = jnp.where(itself, diagonal, -links)
        factor = jax.lax.linalg.cholesky(hessian, symmetrize_input=False)
        step = jax.scipy.linalg.cho_solve((factor, True), b - columns, check_finite=False)
        step = jnp.where(jnp.isfinite(step), step, 0)
        limited = jnp.minimum(1, jnp.asarray([64, 8, 1], Y.dtype) / jnp.max(jnp.abs(step)))
        lengths = jnp.where(slow, limited, jnp.asarray([1, 0.5, 0.125], Y.dtype))
        moves = jnp.concatenate([lack[None, :], lengths[:, None] * step[None, :]])
        # or, where the error is small, on to twice the range
        wider = jnp.minimum(2 * range_, 1)
        widen = (range_ < 1) & (error < 0.1)
        trials = jnp.where(widen, wider / range_ * g, g)[None, :] + jnp.where(widen, 0, moves)
        range_ = jnp.where(widen, wider, range_)
        plans, lacks, errors, values = jax.vmap(plan, in_axes=(0, None))(trials, range_)
        best = jnp.argmin(errors)
        # close to the solution, values differ by rounding errors alone
        slow = (errors[best] > 0.5 * error) & (error > jnp.sqrt(eps)) & ~widen
        best = jnp.where(slow, jnp.argmax(values), best)
        stalled = (errors[best] >= error) & (error < jnp.sqrt(eps)) & ~widen
        done = (range_ == 1) & ~widen & (~(error > 4 * n * eps) | stalled)
        keep = lambda new, old: jnp.where(done, old, new)
        new = (trials[best], plans[best], lacks[best], errors[best])
        return count + 1, range_, *(keep(*pair) for pair in zip(new, (g, P, lack, error), strict=True)), slow, done

    g = jnp.where(b > 0, 0.0, -jnp.inf).astype(Y.dtype)
    # cells of -inf are empty at any range
    forbidden = jnp.isneginf(Y)
    width = jnp.max(Y) - jnp.min(jnp.where(forbidden, jnp.inf, Y))
    Y = jnp.where(forbidden, 0, Y)
    barred = jnp.where(forbidden, -jnp.inf, 0).astype(Y.dtype)
    range_ = jnp.minimum(1, 16 / jnp.maximum(width, 16)).astype(Y.dtype)
    start = (jnp.zeros((), jnp.int32), range_, g, *plan(g, range_)[:3], jnp.asarray(False), jnp.asarray(False))
    return jax.lax.while_loop(lambda c: ~c[-1] & (c[0] < 2000), body, start)[3]


@jax.custom_jvp
def _entropic(Y: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    return _entropic_dual(Y, a, b)


@_entropic.defjvp
def _(primals: Tree, tangents: Tree) -> Any:
    P = _entropic(*primals)
    dY, da, db = tangents
    rows, columns = _sums(P * dY)
    return P, P * (dY + _outer(*_System.of(P).solve(da - rows, db - columns)))


@record
class TransportationPolytope(Set):
    r"""The matrices with given marginals, :math:`\{P \ge 0 : P 1 = a, P^\top 1 = b\}`.

    **Euclidean projection** of ``Y``: :math:`P = [\alpha \oplus \beta + Y]_+`. The dual variables maximize the concave,
    piecewise quadratic :math:`\langle a, \alpha\rangle + \langle b, \beta \rangle - \tfrac12 \|[\alpha \oplus \beta +
    Y]_+\|^2`, which a semismooth Newton method does. On the support ``M`` the derivative is
    :math:`M \circ (\dot Y + \dot\alpha \oplus \dot\beta)`, where the shifts give it the marginals :math:`\dot a` and
    :math:`\dot b`.

    **Entropy projection** of :math:`e^Y` (``project_kl``), which is entropic optimal transport with cost ``-Y``:
    :math:`P = \exp(f \oplus g + Y)`, by Newton and Sinkhorn steps in the logarithms; its derivative is
    :math:`P \circ (\dot Y + \dot f \oplus \dot g)` with shifts likewise.

    Both solve systems of the size of the shorter side, some ten times for the value and once for the derivative. A
    derivative in the marginals is that along changes that keep their sums equal.

    Parameters
    ----------
    rows, columns
        The marginals ``a`` and ``b``, nonnegative, with equal sums.

    Raises
    ------
    ValueError
        If a marginal is negative, the sums differ (where they are known; the projection is NaN otherwise), or the
        unknown is not one matrix that has the marginals' shape.
    SolveError
        If the projection was not found: elements that are not finite, or too far apart for the precision (NaN where
        they are traced).

    References
    ----------
    Blondel, Seguy and Rolet, "Smooth and sparse optimal transport", AISTATS 2018.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import TransportationPolytope
    >>> polytope = TransportationPolytope(jnp.array([1.0, 2.0]), jnp.array([2.0, 1.0]))
    >>> print(polytope.project(jnp.array([[0.0, 3.0], [1.0, 0.0]])).round(3))
    [[0. 1.]
     [2. 0.]]
    """

    rows: Any
    columns: Any

    polyhedral = True

    def __post_init__(self) -> None:
        hold_arrays(self, "rows", "columns")
        name = self.name
        require_all_positive(f"{name}'s rows", self.rows, or_zero=True)
        require_all_positive(f"{name}'s columns", self.columns, or_zero=True)
        if known(self.rows, self.columns):
            totals = [float(np.sum(np.asarray(v, float))) for v in (self.rows, self.columns)]
            if abs(totals[0] - totals[1]) > 1e-5 * max(totals):
                raise ValueError(f"{name} is empty: its rows sum to {totals[0]}, its columns to {totals[1]}.")

    def _oriented(self, x: Tree) -> tuple[bool, jax.Array, jax.Array, jax.Array]:
        """Return whether the matrix is turned to have no fewer rows than columns, then it and its marginals."""
        a, b = jnp.asarray(self.rows, x.dtype), jnp.asarray(self.columns, x.dtype)
        return (True, x.T, b, a) if x.shape[0] < x.shape[1] else (False, x, a, b)

    def _checked(self, P: jax.Array, x: jax.Array, a: jax.Array, b: jax.Array, turned: bool) -> jax.Array:
        """Return the plan the right way round if it has the marginals."""
        rows, columns = _sums(P)
        missed = jnp.maximum(jnp.max(jnp.abs(rows - a)), jnp.max(jnp.abs(columns - b)))
        bound = jnp.sqrt(jnp.finfo(P.dtype).eps) * jnp.maximum(jnp.max(a), jnp.max(b))
        P = believed(P, (self, x), missed <= bound, self._failure, missed, jnp.sum(a) - jnp.sum(b), bound)
        return P.T if turned else P

    def _failure(self, missed: Any, difference: Any, bound: Any) -> Exception:
        name = self.name
        if not abs(float(difference)) <= float(bound):
            return ValueError(f"{name} is empty: the sums of its rows and columns differ by {float(difference):.1e}.")
        remedy = ends.for_precision("scale it down, or compute in float64", missed.dtype)
        return SolveError(
            f"The projection onto {name} failed: a marginal has the error {float(missed):.1e}. The point's "
            f"elements may differ by too much for the precision ({remedy}), or logits of -inf exclude every plan.",
            Status.STALLED,
        )

    def project(self, x: Tree) -> Tree:
        """Return the Euclidean projection."""
        turned, Y, a, b = self._oriented(x)
        return self._checked(_euclidean(Y, a, b)[0], x, a, b, turned)

    def project_kl(self, logits: Any) -> Tree:
        r"""Return the entropy projection of :math:`e^Y`; a cell of :math:`Y_{ij} = -\infty` stays empty."""
        turned, Y, a, b = self._oriented(logits)
        # a cell of -inf is forbidden, and no fault of the point
        finite = jnp.where(jnp.isneginf(logits), jnp.zeros((), logits.dtype), logits)
        return self._checked(_entropic(Y, a, b), finite, a, b, turned)

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return a lower bound of the distance from where the support changes.

        It is exact where the support connects all rows and columns; elsewhere the dual variables, and with them the
        bound, are not unique.
        """
        _, Y, a, b = self._oriented(x)
        _, Z, system = _euclidean(Y, a, b)
        m = Y.shape[0]
        M = system.M
        H = jnp.block([[jnp.diag(system.rows), M], [M.T, jnp.diag(system.columns)]])
        inverse = jnp.linalg.pinv(H, rtol=sum(M.shape) * jnp.finfo(M.dtype).eps, hermitian=True)
        diagonal = jnp.diagonal(inverse)
        # how much the shifts at an element react to the point
        q = _outer(diagonal[:m], diagonal[m:]) + 2 * inverse[:m, m:]
        eps = jnp.sqrt(jnp.finfo(M.dtype).eps)
        held = (M > 0) & (1 - q <= eps)
        slope = jnp.where(M > 0, jnp.where(held, 1, 1 - q), 1 + q)
        return smallest(jnp.where(held, jnp.inf, jnp.abs(Z) / jnp.sqrt(slope)), x)

    def check(self, x: Tree) -> None:
        """Raise unless ``x`` is one matrix of the marginals' shape."""
        name = self.name
        if not isinstance(x, jax.Array) or x.ndim != 2:
            raise ValueError(f"{name} needs an unknown that is one matrix: given {trees.describe(x)}.")
        require_real(name, x)
        for which, marginal, size in (("rows", self.rows, x.shape[0]), ("columns", self.columns, x.shape[1])):
            if jnp.shape(marginal) != (size,):
                raise ValueError(
                    f"{name}'s {which} must be a vector of {size} numbers for an unknown of shape {x.shape}: "
                    f"given shape {jnp.shape(marginal)}."
                )


@record
class _DoublyStochastic(TransportationPolytope):
    """The transportation polytope of a Birkhoff polytope, under whose name it reports."""

    @property
    def name(self) -> str:
        return "Birkhoff"


def _ones(x: Float[Array, "n n"]) -> TransportationPolytope:
    return _DoublyStochastic(*(jnp.ones(size, x.dtype) for size in x.shape))


@record
class Birkhoff(Set):
    r"""The Birkhoff polytope of the doubly stochastic matrices, the convex hull of the permutation matrices.

    This is the :class:`TransportationPolytope` with all marginals one.

    Raises
    ------
    ValueError
        If the unknown is not one square matrix.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import Birkhoff
    >>> print(Birkhoff().project(jnp.array([[1.0, 0.0], [0.5, 0.0]])).round(3))
    [[0.625 0.375]
     [0.375 0.625]]
    """

    polyhedral = True

    def project(self, x: Tree) -> Tree:
        """Return the Euclidean projection."""
        return _ones(x).project(x)

    def project_kl(self, logits: Any) -> Tree:
        r"""Return the entropy projection of :math:`e^Y` (Sinkhorn's matrix scaling)."""
        return _ones(logits).project_kl(logits)

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return a lower bound of the distance from where the support changes."""
        return _ones(x).kink_distance(x)

    def check(self, x: Tree) -> None:
        """Raise unless ``x`` is one real square matrix."""
        if not isinstance(x, jax.Array) or x.ndim != 2 or x.shape[0] != x.shape[1]:
            raise ValueError(f"Birkhoff needs an unknown that is one square matrix: given {trees.describe(x)}.")
        require_real("Birkhoff", x)
