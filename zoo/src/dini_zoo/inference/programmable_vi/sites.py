"""Random choices as equations of a traced program: `sample`, `add_cost`, and what an interpreter finds of them.

Outside of an interpreter such an equation has no meaning: to run, to compile or to differentiate it raises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from dini_zoo.kit.checking import floats

from .distributions import Distribution, from_library
from .jaxprs import evaluate

sample_p = Primitive("sample")
cost_p = Primitive("add_cost")
#: A program's value, such as of a distribution that is itself a program: its jaxpr stands in the equation.
program_p = Primitive("sample_program")
for _primitive in (sample_p, cost_p, program_p):
    _primitive.multiple_results = True


def sample(distribution: Any, *params: Any, address: str | None = None) -> Any:
    r"""Draw from a distribution: a random choice of a program.

    Parameters
    ----------
    distribution
        One of `distributions`, such as ``Normal()``, which takes `params`; an object of NumPyro's (or any pytree with
        ``sample(key)`` and ``log_prob(value)``), which has its parameters in it, bare or by
        ``from_library(object, strategy)``; or a program with a density: a generative function, `marginal`, `normalize`.
    *params
        The distribution's parameters. Where they are arrays, the site is one choice of independent elements, whose
        log-densities are summed; under `jax.vmap` the draws are independent, too.
    address
        The choice's name, which a density needs.

    Returns
    -------
    Array or tree
        The value. It exists only in a program that `expectation` or `simulate` interprets.

    Raises
    ------
    TypeError
        Where the distribution has no derivative by its strategy, or a parameter is not an array.
    """
    program = hasattr(distribution, "random_weighted")
    if not program and not isinstance(distribution, Distribution):
        distribution = from_library(distribution)
    try:
        params = params if program else floats(params)
        leaves, treedef = jax.tree.flatten((distribution, params))
        leaves = [jnp.asarray(leaf) for leaf in leaves]
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"The parameters of {named(distribution, address)} must be arrays or numbers ({error}). An object of "
            "another library must be a pytree of its parameters."
        ) from None
    if program:

        def value(leaves: list[Array]) -> Any:
            distribution, params = jax.tree.unflatten(treedef, leaves)
            return distribution.random_weighted(*params)[1]

        return _as_one_equation(value, leaves, treedef=treedef, address=address, detached=False)
    where = named(distribution, address)
    if len(params) != len(distribution.parameters):
        raise TypeError(
            f"{where} needs {len(distribution.parameters)} parameters {distribution.parameters}: given {len(params)}."
        )
    distribution.strategy.check(distribution, params, where)
    try:
        (value,) = sample_p.bind(*leaves, treedef=treedef, address=address, sizes=())
    except (TypeError, ValueError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"The parameters of {where} do not fit one another: {error}") from error
    return value


def add_cost(cost: Any) -> None:
    """Add a scalar to the program's value, wherever in it. Under `jax.vmap` the sum of all is added."""
    if jnp.ndim(cost):
        raise ValueError(f"A cost must be a scalar: given one of shape {jnp.shape(cost)}.")
    cost_p.bind(jnp.asarray(cost), sizes=())


def named(distribution: Any, address: str | None) -> str:
    """How messages call a site."""
    kind = distribution.name if hasattr(distribution, "name") else type(distribution).__name__
    return f"the site {address!r} ({kind})" if address else f"a site of {kind} without an address"


def detached(program: Callable[..., Any], *args: Any) -> Any:
    """What a program with random choices returns, as data: all choices are simply drawn, and nothing has a derivative.

    Costs that it adds are left out. It is for what a program only looks at, such as the samples of a wake phase.
    """
    leaves, treedef = jax.tree.flatten(args)
    return _as_one_equation(lambda leaves: program(*jax.tree.unflatten(treedef, leaves)), leaves, detached=True)


def _as_one_equation(value: Callable[[list[Array]], Any], leaves: list[Array], **params: Any) -> Any:
    """Bind what a program returns as one equation, with all that it closes over as operands in front."""
    closed, shape = jax.make_jaxpr(value, return_shape=True)(leaves)
    operands, consts = [*closed.consts, *leaves], len(closed.consts)
    opened = lambda *operands: evaluate(closed, operands[consts:], operands[:consts])
    inner, tree = jax.make_jaxpr(opened)(*operands), jax.tree.structure(shape)
    outs = program_p.bind(*operands, jaxpr=inner, consts=consts, tree=tree, sizes=(), **params)
    return jax.tree.unflatten(tree, outs)


@dataclass(frozen=True)
class Site:
    """A random choice that an interpreter has met, with the values of its parameters.

    Under `jax.vmap` all leaves have the mapped axes of `sizes` in front.
    """

    leaves: tuple[Array, ...]
    treedef: Any
    sizes: tuple[int, ...]
    address: str | None

    @property
    def distribution(self) -> Any:
        """The distribution; its leaves have the mapped axes."""
        return jax.tree.unflatten(self.treedef, self.leaves)[0]

    @property
    def strategy(self) -> Any:
        """How its derivative is estimated."""
        return self.distribution.strategy

    @property
    def where(self) -> str:
        """How messages call it."""
        return named(self.distribution, self.address)

    @property
    def stopped(self) -> Site:
        """The same choice, without derivatives in its parameters."""
        return Site(tuple(jax.lax.stop_gradient(leaf) for leaf in self.leaves), self.treedef, self.sizes, self.address)

    def with_strategy(self, strategy: Any) -> Site:
        """The same choice with another strategy."""
        distribution, params = jax.tree.unflatten(self.treedef, self.leaves)
        leaves, treedef = jax.tree.flatten((distribution.with_strategy(strategy), params))
        return Site(tuple(leaves), treedef, self.sizes, self.address)

    def each(self, fun: Callable[..., Any], *others: Any) -> Any:
        """``fun(distribution, params, *others)`` for each element of the mapped axes."""
        call = lambda leaves, *others: fun(*jax.tree.unflatten(self.treedef, leaves), *others)
        for _ in self.sizes:
            call = jax.vmap(call)
        return call(self.leaves, *others)

    def keys(self, key: Array) -> Array:
        """A key for each element of the mapped axes."""
        return jax.random.split(key, self.sizes) if self.sizes else key

    def draw(self, key: Array) -> Array:
        """A value, differentiable in the parameters where the sampler is."""
        return self.each(lambda distribution, params, key: distribution.draw(key, *params), self.keys(key))

    def log_prob(self, value: Array) -> Array:
        """Log-densities, one for each element of the mapped axes."""
        return self.each(lambda distribution, params, value: distribution.log_prob(value, *params), value)

    def invalid(self) -> Array:
        """Zero where all parameters are in their domain, else not a number.

        Raises `ValueError` where they are not and it is known; in a compiled program the estimate shows it.
        """
        holds = jnp.all(self.each(lambda distribution, params: distribution.valid(*params)))
        if not isinstance(holds, jax.core.Tracer) and not holds:
            distribution, given = jax.tree.unflatten(self.treedef, self.leaves)
            text = ", ".join(f"{name} = {value}" for name, value in zip(distribution.parameters, given, strict=True))
            raise ValueError(
                f"The parameters of {self.where} must be {distribution.needs}: given {text or 'those of the object'}."
            )
        return jnp.where(holds, 0.0, jnp.nan)


def site_of(equation: Any, values: Sequence[Any]) -> Site:
    """The choice of an equation of `sample_p` or `program_p`."""
    params = equation.params
    leaves = tuple(values[params.get("consts", 0) :])
    return Site(leaves, params["treedef"], params["sizes"], params["address"])


# What JAX does with the equations outside of an interpreter


def _shapes(*avals: Any, treedef: Any, address: str | None, sizes: tuple[int, ...]) -> list[ShapedArray]:
    leaves = tuple(jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type) for aval in avals)
    draw = lambda leaves, key: Site(leaves, treedef, sizes, address).draw(key)
    found = jax.eval_shape(draw, leaves, jax.eval_shape(lambda: jax.random.key(0)))
    return [ShapedArray(found.shape, found.dtype)]


sample_p.def_abstract_eval(_shapes)
cost_p.def_abstract_eval(lambda cost, *, sizes: [])
program_p.def_abstract_eval(lambda *avals, jaxpr, **_: [ShapedArray(one.shape, one.dtype) for one in jaxpr.out_avals])


def _outside(*_: Any, **params: Any) -> Any:
    where = "`add_cost`"
    if "treedef" in params:
        placeholder = jax.tree.unflatten(params["treedef"], [None] * params["treedef"].num_leaves)
        where = named(placeholder[0], params["address"])
    raise RuntimeError(
        f"A random choice has no value outside of an interpreter ({where}): give the program to `expectation`, "
        "or to `simulate(key, program, ...)`."
    )


def _no_derivative(_: Any, __: Any, **params: Any) -> Any:
    placeholder = jax.tree.unflatten(params["treedef"], [None] * params["treedef"].num_leaves)
    raise NotImplementedError(
        f"A program cannot differentiate through {named(placeholder[0], params['address'])} inside of itself: "
        "differentiate `expectation(program).estimate`."
    )


for _primitive in (sample_p, cost_p, program_p):
    _primitive.def_impl(_outside)
    mlir.register_lowering(_primitive, _outside)
for _primitive in (sample_p, program_p):
    ad.primitive_jvps[_primitive] = _no_derivative


def _in_front(size: int, values: Sequence[Any], axes: Sequence[Any]) -> list[Array]:
    """All values with the mapped axis in front, those that are not mapped as well."""
    return [
        jnp.broadcast_to(value, (size, *jnp.shape(value))) if axis is None else jnp.moveaxis(value, axis, 0)
        for value, axis in zip(values, axes, strict=True)
    ]


# These rules are called even where no operand is mapped: independent draws are asked for all the same.


def _map_sample(axis: Any, values: Any, axes: Any, *, sizes: tuple[int, ...], **params: Any) -> Any:
    outs = sample_p.bind(*_in_front(axis.size, values, axes), sizes=(axis.size, *sizes), **params)
    return outs, [0] * len(outs)


def _map_cost(axis: Any, values: Any, axes: Any, *, sizes: tuple[int, ...]) -> Any:
    return cost_p.bind(*_in_front(axis.size, values, axes), sizes=(axis.size, *sizes)), []


def _map_program(axis: Any, values: Any, axes: Any, *, jaxpr: Any, sizes: tuple[int, ...], **params: Any) -> Any:
    values = _in_front(axis.size, values, axes)
    inner = jax.make_jaxpr(jax.vmap(lambda *values: evaluate(jaxpr, values)))(*values)
    outs = program_p.bind(*values, jaxpr=inner, sizes=(axis.size, *sizes), **params)
    return outs, [0] * len(outs)


batching.fancy_primitive_batchers[sample_p] = _map_sample
batching.fancy_primitive_batchers[cost_p] = _map_cost
batching.fancy_primitive_batchers[program_p] = _map_program
