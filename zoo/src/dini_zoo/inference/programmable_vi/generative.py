"""Generative functions: programs whose choices have addresses, and so a joint density.

What draws is a program for `expectation` or `simulate`; methods with a `key` run such a program at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from .drawing import CALLS, called, choices
from .expectation import simulate
from .jaxprs import Environment, bind_again
from .sites import program_p, sample_p, site_of
from .strategies import all_values

Choices = Mapping[str, Any]


class Trace(NamedTuple):
    """What a generative function did."""

    choices: dict[str, Any]
    """Values by address."""
    log_densities: dict[str, Array]
    """Of each choice, given those before; estimates where a choice's distribution is a program."""
    retval: Any
    """What it returned."""

    @property
    def log_density(self) -> Array:
        """Of all choices."""
        return self.log_density_of(self.choices)

    def log_density_of(self, addresses: Any) -> Array:
        """Of some of the choices, given those before each."""
        return sum((one for name, one in self.log_densities.items() if name in addresses), jnp.zeros(()))


@jax.tree_util.register_static
@dataclass(frozen=True)
class GenerativeFunction:
    """A program whose choices have addresses; see `gen`. As a distribution it is one of dictionaries of its choices."""

    program: Callable[..., Any]

    @property
    def name(self) -> str:
        """How messages call it."""
        return getattr(self.program, "__name__", type(self.program).__name__)

    def __call__(self, *args: Any) -> Any:
        """What the program returns: a part of another program."""
        return self.program(*args)

    def trace(self, *args: Any, given: Choices | None = None) -> Trace:
        """Choices, drawn or `given`, with their log-densities: a program.

        Raises `ValueError` where an address is twice, missing or unknown, or a given value has not its choice's shape.
        """
        return traced(self, args, given or {})

    def supports(self, constraints: Choices, *args: Any) -> dict[str, Array]:
        """All values of each choice that is not constrained, which must not depend on other choices."""
        listed = _Supports(self.name, constraints)
        _interpreted(listed, self, args)
        return listed.values

    def simulate(self, key: Array, *args: Any) -> Trace:
        """Draw all choices."""
        return simulate(key, self.trace, *args)

    def assess(self, choices: Choices, *args: Any) -> tuple[Array, Any]:
        """The log-density of all choices, differentiable in the arguments and in the choices; and what is returned.

        It draws nothing, unless a choice's distribution is itself a program: then it is a program, too.
        """
        found = self.trace(*args, given=choices)
        missing = [name for name in found.choices if name not in choices]
        if missing:
            raise ValueError(f"The choices must have all addresses of {self.name}: {missing} are missing.")
        return found.log_density, found.retval

    def importance(self, key: Array, constraints: Choices, *args: Any) -> tuple[dict[str, Any], Array, Any]:
        """All choices, those that are not constrained drawn from the prior; the constraints' log-weight; the return.

        The weight is the density of the constraints given the choices before each.
        """
        found = simulate(key, lambda constraints, *args: self.trace(*args, given=constraints), constraints, *args)
        return found.choices, found.log_density_of(constraints), found.retval

    def random_weighted(self, *args: Any) -> tuple[Array, dict[str, Any]]:
        """The log-density of choices, and the choices: a program."""
        found = self.trace(*args)
        return found.log_density, found.choices

    def estimate_logpdf(self, value: Choices, *args: Any) -> Array:
        """The log-density of choices."""
        return self.assess(value, *args)[0]


def gen(program: Callable[..., Any]) -> GenerativeFunction:
    """A program whose choices have addresses, with the joint density of its choices.

    Parameters
    ----------
    program
        A function of arrays that draws by ``sample(distribution, *params, address="...")``. Choices may stand in
        `jax.jit` and, with one axis more, in `jax.vmap`. How many there are must not depend on chance: choices in loops
        and branches are refused.

    Returns
    -------
    GenerativeFunction

    Raises
    ------
    TypeError
        Where it is not a function.

    Examples
    --------
    >>> import jax
    >>> from dini_zoo.inference.programmable_vi import Normal, gen, sample
    >>> @gen
    ... def model(scale):
    ...     x = sample(Normal(), 0.0, scale, address="x")
    ...     return sample(Normal(), x, 1.0, address="y")
    >>> log_density, y = model.assess({"x": 1.0, "y": 2.0}, 3.0)
    >>> print(f"{log_density:.4f}", float(y))
    -3.4920 2.0
    >>> sorted(model.simulate(jax.random.key(0), 3.0).choices)
    ['x', 'y']
    """
    if not callable(program):
        raise TypeError(f"`program` must be a function: given {program!r}.")
    return GenerativeFunction(program)


def traced(function: GenerativeFunction, args: Sequence[Any], given: Choices) -> Trace:
    """Interpret a generative function: each choice has a given value or is drawn, as one of the program around."""
    found = _Recorder(function.name, given)
    retval = _interpreted(found, function, args)
    unknown = [name for name in given if name not in found.choices]
    if unknown:
        raise ValueError(f"{function.name} has no choices {unknown}: its addresses are {list(found.choices)}.")
    return Trace(found.choices, found.log_densities, retval)


def _interpreted(recorder: _Recorder, function: GenerativeFunction, args: Sequence[Any]) -> Any:
    """What the function returns, all of its choices made by the recorder."""
    leaves, treedef = jax.tree.flatten(tuple(args))
    of_leaves = lambda leaves: function.program(*jax.tree.unflatten(treedef, leaves))
    closed, shape = jax.make_jaxpr(of_leaves, return_shape=True)(leaves)
    return jax.tree.unflatten(jax.tree.structure(shape), recorder.run(closed, leaves))


class _Recorder:
    """Notes the choices of one interpretation."""

    def __init__(self, name: str, given: Choices):
        self.name, self.given = name, given
        self.choices: dict[str, Any] = {}
        self.log_densities: dict[str, Array] = {}

    def run(self, closed: Any, values: Sequence[Any]) -> list[Any]:
        env, jaxpr = Environment.of(closed, values), getattr(closed, "jaxpr", closed)
        for equation in jaxpr.eqns:
            env.write(equation.outvars, self._equation(equation, env.read(equation.invars)))
        return env.read(jaxpr.outvars)

    def _equation(self, equation: Any, values: Sequence[Any]) -> list[Any]:
        if equation.primitive is sample_p or (equation.primitive is program_p and "treedef" in equation.params):
            return self._choose(equation, values)
        if not choices(equation):
            return bind_again(equation, values)
        if equation.primitive.name in CALLS:
            return self.run(called(equation), values)
        raise NotImplementedError(
            f"{self.name} has choices inside of `{equation.primitive.name}`: a density has addresses for choices in "
            "`jax.jit` and `jax.vmap` alone."
        )

    def _choose(self, equation: Any, values: Sequence[Any]) -> list[Any]:
        site = site_of(equation, values)
        name = site.address
        if name is None:
            raise ValueError(f"{self.name} has {site.where}, which therefore has no density: give it an `address`.")
        if name in self.choices:
            raise ValueError(f"{self.name} has two choices with the address {name!r}.")
        program, known = equation.primitive is program_p, name in self.given
        tree = equation.params["tree"] if program else jax.tree.structure(0)
        if known:
            flat = self._fitting(name, self.given[name], tree, [one.aval for one in equation.outvars])
            value = jax.tree.unflatten(tree, flat)
            density = lambda one, params, value: (
                one.estimate_logpdf(value, *params) if program else one.log_prob(value, *params)
            )
            log_density = site.each(density, value)
        elif program:
            log_density, value = site.each(lambda one, params: one.random_weighted(*params))
            flat = jax.tree.leaves(value)
        else:
            flat = bind_again(equation, values)
            value = flat[0]
            log_density = site.log_prob(value)
        self.choices[name] = value
        self.log_densities[name] = jnp.sum(log_density) + (0.0 if program else site.invalid())
        return flat

    def _fitting(self, name: str, value: Any, tree: Any, avals: Sequence[Any]) -> list[Array]:
        """The leaves of a given value, of the choice's types."""
        if jax.tree.structure(value) != tree:
            raise ValueError(
                f"The choice {name!r} of {self.name} must be a tree {tree}: given {jax.tree.structure(value)}."
            )
        flat = [jnp.asarray(one) for one in jax.tree.leaves(value)]
        for one, aval in zip(flat, avals, strict=True):
            if one.shape != aval.shape:
                raise ValueError(f"The choice {name!r} of {self.name} must have shape {aval.shape}: given {one.shape}.")
            if jnp.issubdtype(one.dtype, jnp.floating) and not jnp.issubdtype(aval.dtype, jnp.floating):
                raise TypeError(f"The choice {name!r} of {self.name} must be {aval.dtype}: given {one.dtype}.")
        return [one.astype(aval.dtype) for one, aval in zip(flat, avals, strict=True)]


class _Supports(_Recorder):
    """Lists the values of the choices that are not given; the program goes on with the first of each."""

    def __init__(self, name: str, given: Choices):
        super().__init__(name, given)
        self.values: dict[str, Array] = {}

    def _choose(self, equation: Any, values: Sequence[Any]) -> list[Any]:
        site = site_of(equation, values)
        if site.address is not None and site.address not in self.given:
            if equation.primitive is program_p or not site.distribution.finite:
                raise TypeError(f"The values of {site.where} cannot be listed: take an `ImportanceSampler`.")
            self.values[site.address] = all_values(site)[0]
            self.given = {**self.given, site.address: self.values[site.address][0]}
        return super()._choose(equation, values)
