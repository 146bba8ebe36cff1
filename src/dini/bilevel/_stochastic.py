"""The stochastic bilevel methods as one loop with parts."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..checks.settings import require_count, require_positive
from ..trees import Tree
from ._adjoints import Adjoint, Lanczos, LinearSGD
from ._batches import part
from ._checks import require_share
from ._estimators import SGD, Estimator, Terms
from ._loop import Method, Moved, State
from ._problem import Bilevel, Point
from ._progress import visible
from ._rules import Transformation, as_rule

_ALL = ("x", "v", "theta")


@record
class Stochastic(Method):
    r"""One loop of bilevel methods: steps of the inner unknown, of the adjoint, and one of the outer unknown.

    With the directions :math:`D_x`, :math:`D_v`, :math:`D_\theta` of :class:`Bilevel` on batches, a step is

    .. math::
        \begin{aligned}
        x &\leftarrow x - \rho\,\hat D_x(x, \theta) && \text{(inner\_steps times)}, \\
        v &\leftarrow v - \rho_v\,\hat D_v(x, v, \theta) && \text{(as adjoint says)}, \\
        h &\leftarrow (1 - a)\,h + a\,\hat D_\theta(x, v, \theta), \\
        \theta &\leftarrow \mathrm{prox}(\theta - \gamma\,h) ,
        \end{aligned}

    where the hats are estimates of an :class:`Estimator`. With ``simultaneous`` all three directions are taken at the
    same point, on the same batches, from one product. Named methods are presets of it: :func:`SOBA`, :func:`SABA`,
    :func:`SRBA`, :func:`MASOBA`, :func:`AmIGO`, :func:`StocBiO`, :func:`FSLA`, :func:`TTSA`, :func:`SubBiO`,
    :func:`LancBiO`.

    A step is ``state = method.step(state, outer_batch, inner_batch)``; batches are what the objectives take, or
    numbered ones of :class:`Batches`. Of a :class:`Batch` with several numbers, the parts of a step use one each, in
    turn (``method.batches`` says how many there are); any other batch serves all parts. The methods have no stopping
    test: ``state.error`` is the norm of the last estimate, ``state.residual`` that of the inner gradient, and
    ``state.status`` tells where a step was not finite or an unknown diverges.

    Parameters
    ----------
    problem
        A :class:`Bilevel`.
    inner_step, adjoint_step, outer_step
        :math:`\rho`, :math:`\rho_v`, :math:`\gamma`: numbers, functions of the step's number, or transformations of
        optax. ``adjoint_step`` is by default ``inner_step``, as it is where the inner problem has a constraint or
        penalty (``None`` in the field, whatever ``inner_step`` is replaced by).
    inner_steps
        Inner steps in each step.
    adjoint
        :class:`LinearSGD`, :class:`RandomTerm`, :class:`Plane` or :class:`Lanczos`.
    estimator
        :class:`SGD`, :class:`SAGA`, :class:`SPIDER` or :class:`STORM`, of all directions; :class:`RandomTerm`,
        :class:`Plane` and :class:`Lanczos` take ``SGD()``.
    outer_estimator
        Another one for the outer direction.
    average
        :math:`a`, in (0, 1]; one keeps no average.
    radius
        Largest norm of the adjoint, onto which longer ones are scaled.
    simultaneous
        Whether all directions are taken at the same point; else each part sees the last one's result.

    Raises
    ------
    TypeError, ValueError
        For settings that do not fit each other, naming both.

    Examples
    --------
    The minimum of :math:`(x^* - 1)^2` with :math:`x^* = \theta / 2` is at two:

    >>> import dini, jax.numpy as jnp
    >>> problem = dini.bilevel.Bilevel(lambda x, t: jnp.sum((x - 1) ** 2), lambda x, t: jnp.sum(x**2 - t * x))
    >>> method = dini.bilevel.Stochastic(problem, inner_step=0.4, outer_step=0.3)
    >>> print(method.run(method.init(jnp.zeros(1), jnp.zeros(1)), 200).theta.round(3))
    [2.]
    """

    problem: Bilevel
    inner_step: Any
    outer_step: Any
    adjoint_step: Any = None
    inner_steps: int = field(default=1, metadata={"static": True})
    adjoint: Any = field(default_factory=LinearSGD)
    estimator: Any = field(default_factory=SGD)
    outer_estimator: Any = None
    average: Any = 1.0
    radius: Any = None
    simultaneous: bool = field(default=True, metadata={"static": True})

    def __post_init__(self) -> None:
        if not isinstance(self.problem, Bilevel):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"problem must be a dini.bilevel.Bilevel: given {type(self.problem).__name__}.")
        inner = self.problem.inner
        composite = inner.composite
        set_rule = lambda name, rule: object.__setattr__(self, name, rule)
        set_rule("inner_step", as_rule("inner_step", self.inner_step, sized=composite))
        penalized = self.problem.penalty is not None
        set_rule("outer_step", as_rule("outer_step", self.outer_step, sized=penalized))
        if composite and self.adjoint_step is not None:
            raise ValueError(
                f"adjoint_step must be left out for {inner.name}: the adjoint uses the step size of the inner problem, "
                "since both belong to one proximal map."
            )
        if self.adjoint_step is not None:
            set_rule("adjoint_step", as_rule("adjoint_step", self.adjoint_step))
        for name in ("estimator", "outer_estimator"):
            given = getattr(self, name)
            if not (isinstance(given, Estimator) or (given is None and name == "outer_estimator")):
                raise TypeError(f"{name} must be SGD(), SAGA(), SPIDER() or STORM(): given {given!r}.")
        self._check_adjoint()
        require_count("inner_steps", self.inner_steps)
        require_share("average", self.average)
        if self.radius is not None:
            require_positive("radius", self.radius)
        once = self.inner_steps == 1 and self.adjoint == LinearSGD()
        if self.simultaneous and not once:
            raise ValueError(
                "simultaneous=True takes one step of each kind: given "
                f"inner_steps={self.inner_steps} and adjoint={self.adjoint!r}. Pass simultaneous=False."
            )

    def _check_adjoint(self) -> None:
        """Raise unless the adjoint's method is one and fits the problem, its step and the estimator."""
        if self.problem.inner.composite and not isinstance(self.adjoint, LinearSGD):
            raise ValueError(
                f"{type(self.adjoint).__name__} solves the adjoint system of a smooth inner problem: given "
                f"{self.problem.inner.name} with a constraint or penalty. Use LinearSGD()."
            )
        if not hasattr(self.adjoint, "run"):
            raise TypeError(f"adjoint must be LinearSGD(), RandomTerm(), Plane() or Lanczos(): given {self.adjoint!r}.")
        if not isinstance(self.adjoint, LinearSGD) and isinstance(self._adjoint_rule, Transformation):
            raise ValueError(
                f"{type(self.adjoint).__name__} needs an adjoint_step with a length, a number or a schedule."
            )
        if not isinstance(self.adjoint, LinearSGD) and not isinstance(self.estimator, SGD):
            raise ValueError(
                f"{type(self.adjoint).__name__} uses the batches of the current step, which no estimator corrects: "
                f"given estimator={self.estimator!r}. Use adjoint=LinearSGD(), or estimator=SGD() with an "
                "outer_estimator."
            )

    @property
    def remedy(self) -> str:
        """What to do where a run fails."""
        if isinstance(self.adjoint, Lanczos):
            return f"Lanczos is meant for exact or large batches: take larger ones, or LinearSGD(). {super().remedy}"
        return super().remedy

    @property
    def _adjoint_rule(self) -> Any:
        return self.inner_step if self.adjoint_step is None else self.adjoint_step

    @property
    def batches(self) -> tuple[int, int]:
        """How many outer and inner batches a step uses, if it is given so many."""
        if self.simultaneous:
            return 1, 1
        return self.adjoint.steps + 1, self.inner_steps + self.adjoint.steps + 1

    def _phases(self) -> list[tuple[str, ...]]:
        """Return which directions are estimated together."""
        if not self.simultaneous:
            return [("x",), ("v",), ("theta",)]
        return [_ALL] if self.outer_estimator is None else [("x", "v"), ("theta",)]

    def _estimator(self, parts: tuple[str, ...]) -> Any:
        return self.outer_estimator if parts == ("theta",) and self.outer_estimator is not None else self.estimator

    def _remembered(self, theta: Tree, x: Tree, outer: Any, inner: Any) -> tuple[Any, Any]:
        outer, inner = part(outer, 0), part(inner, 0)
        point = Point(x, trees.zeros_like(x), theta)
        seen = [self._estimator(p).init(Terms(self.problem, p), point, outer, inner) for p in self._phases()]
        start = getattr(self.adjoint, "start", None)
        if start is not None:  # in place of an estimator's memory, which plain batches do without
            seen[self._phases().index(("v",))] = start(point.v)
        rules = self.inner_step.init(x), self._adjoint_rule.init(x), self.outer_step.init(theta)
        return point.v, (seen, rules, trees.zeros_like(theta))

    def _advance(self, state: State, outer: Any, inner: Any) -> Moved:
        advance = self._together if self.simultaneous else self._in_turn
        return advance(state, outer, inner)

    def _together(self, state: State, outer: Any, inner: Any) -> Moved:
        point, (seen, rules, mean) = Point(state.x, state.v, state.theta), state.memory
        outer, inner = part(outer, 0), part(inner, 0)
        directions: dict[str, Any] = {}
        kept = []
        for parts, memory in zip(self._phases(), seen, strict=True):
            terms = Terms(self.problem, parts)
            some, memory = self._estimator(parts).estimate(terms, memory, point, outer, inner)
            directions |= some
            kept.append(memory)
        x, first = self._inner_move(point, directions["x"], rules[0], state.steps)
        v, second = self._adjoint_move(point, directions, rules[1], state.steps)
        memory = kept, (first, second, rules[2]), mean
        return self._outer_move(state, x, v, directions["theta"], memory, (point.x, directions["x"]))

    def _in_turn(self, state: State, outer: Any, inner: Any) -> Moved:
        (of_x, of_v, of_theta), (first, second, third), mean = state.memory
        point = Point(state.x, state.v, state.theta)
        on_x, on_v, on_theta = (Terms(self.problem, parts) for parts in self._phases())

        def descend(turn: Any, carry: Any) -> Any:
            x, memory, rule, _ = carry
            here = point._replace(x=x)
            found, memory = self.estimator.estimate(on_x, memory, here, part(outer, 0), part(inner, turn))
            x, rule = self._inner_move(here, found["x"], rule, state.steps)
            return x, memory, rule, (here.x, found["x"])

        carry = point.x, of_x, first, (point.x, point.x)
        many = self.inner_steps > 1
        x, of_x, first, last_step = (
            jax.lax.fori_loop(0, self.inner_steps, descend, carry) if many else descend(0, carry)
        )
        point = point._replace(x=x)

        def move(v: Tree, memory: Any, turn: Any) -> Any:
            seen, rule = memory
            here, i = point._replace(v=v), self.inner_steps + turn
            found, seen = self.estimator.estimate(on_v, seen, here, part(outer, turn), part(inner, i))
            if self.problem.inner.composite:
                found |= self.problem.inner_gradient(here, part(inner, i))
            v, rule = self._adjoint_move(here, found, rule, state.steps)
            return v, (seen, rule)

        def product(v: Tree, turn: Any) -> Any:
            here = point._replace(v=v)
            b = self.problem.outer_terms(here, part(outer, turn))["v"]
            return self.problem.inner_terms(here, part(inner, self.inner_steps + turn))["v"], b

        length = jnp.asarray(self._adjoint_rule.length(state.steps))
        v, memory = self.adjoint.run(point.v, Adjoint(move, product, length, (of_v, second), state.steps))
        of_v, second = memory
        point = point._replace(v=self._short(v))
        last = part(outer, self.adjoint.steps), part(inner, self.inner_steps + self.adjoint.steps)
        estimator = self._estimator(("theta",))
        found, of_theta = estimator.estimate(on_theta, of_theta, point, *last)
        memory = [of_x, of_v, of_theta], (first, second, third), mean
        return self._outer_move(state, point.x, point.v, found["theta"], memory, last_step)

    def _inner_move(self, point: Point, direction: Tree, rule: Any, count: Any) -> tuple[Any, Any]:
        x, rule = self.inner_step.step(point.x, direction, rule, count)
        x = self.problem.inner.prox(x, self.inner_step.length(count))
        return visible(x, direction), rule

    def _adjoint_move(self, point: Point, directions: dict[str, Any], rule: Any, count: Any) -> tuple[Any, Any]:
        v, rule = self._adjoint_rule.step(point.v, directions["v"], rule, count)
        inner = self.problem.inner
        if inner.composite:
            length = self.inner_step.length(count)
            argument = trees.axpy(-jnp.asarray(length), directions["x"], point.x)
            v = jax.jvp(lambda y: inner.prox(y, length), (argument,), (v,))[1]
        return self._short(v), rule

    def _short(self, v: Tree) -> Any:
        if self.radius is None:
            return v
        return trees.scale(jnp.minimum(1, self.radius / jnp.maximum(trees.norm(v), self.radius)), v)

    def _outer_move(self, state: State, x: Tree, v: Tree, direction: Tree, memory: Any, last_step: Any) -> Moved:
        """Return the state after an outer step; ``last_step`` is where the last inner one began, and its direction."""
        seen, (first, second, third), mean = memory
        mean = trees.axpy(jnp.asarray(self.average), trees.sub(direction, mean), mean)
        theta, third = self.outer_step.step(state.theta, mean, third, state.steps)
        length = self.outer_step.length(state.steps)
        theta = self.problem.prox(theta, length)
        error = self.problem.outer_error(state.theta, mean, theta, length).astype(state.error.dtype)
        residual = self.problem.inner_residual(last_step, x, self.inner_step.length(state.steps))
        memory = seen, (first, second, third), mean
        return Moved(
            state._replace(theta=theta, x=x, v=v, error=error, residual=residual, memory=memory), last_step[1], mean
        )
