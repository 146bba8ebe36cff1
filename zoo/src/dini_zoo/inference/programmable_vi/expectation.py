r"""Expectations of programs with random choices, as estimates that `jax.grad` differentiates without bias."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .drawing import drawn
from .interpreter import State, estimate
from .lanes import refuse_where_lanes_differ

refuse_where_lanes_differ()


def _traced(program: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, list[Array], Any]:
    """A program's jaxpr, its operands, and the structure of its result. What is no array is part of the program."""
    leaves, treedef = jax.tree.flatten(args)
    moving = [_numeric(leaf) for leaf in leaves]

    def of_arrays(*arrays: Array) -> Any:
        given = iter(arrays)
        return program(
            *jax.tree.unflatten(treedef, [next(given) if m else one for m, one in zip(moving, leaves, strict=True)])
        )

    operands = [jnp.asarray(leaf) for leaf, moves in zip(leaves, moving, strict=True) if moves]
    closed, shape = jax.make_jaxpr(of_arrays, return_shape=True)(*operands)
    return closed, operands, shape


def _numeric(leaf: Any) -> bool:
    try:
        jnp.result_type(leaf)
    except TypeError:
        return False
    return not isinstance(leaf, str)


def _check_key(key: Any) -> None:
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    raw = isinstance(key, jax.Array) and key.dtype == jnp.uint32 and key.ndim == 1
    if not raw and not (typed and key.ndim == 0):
        raise TypeError(f"`key` must be one random key of JAX, such as `jax.random.key(0)`: given {key!r}.")


@dataclasses.dataclass(frozen=True)
class Expectation:
    """The expectation of a program's value; see `expectation`."""

    program: Callable[..., Any]

    def estimate(self, key: Array, *args: Any) -> Array:
        """An estimate of the expectation: unbiased, as are its derivatives in `args`."""
        _check_key(key)
        closed, operands, shape = _traced(self.program, args)
        if not hasattr(shape, "shape") or shape.shape or not jnp.issubdtype(shape.dtype, jnp.floating):
            raise TypeError(f"The program of an expectation must return a real scalar: given {shape}.")
        inputs = [one for one in (*closed.consts, *operands) if jnp.issubdtype(jnp.result_type(one), jnp.floating)]
        return estimate(closed, operands, State(key, tuple(inputs)), lambda outs, _: outs[0])

    def grad_estimate(self, key: Array, *args: Any, argnums: int | Sequence[int] = 0) -> Any:
        """An unbiased estimate of the gradient in the arguments `argnums`."""
        return self.value_and_grad_estimate(key, *args, argnums=argnums)[1]

    def value_and_grad_estimate(self, key: Array, *args: Any, argnums: int | Sequence[int] = 0) -> tuple[Array, Any]:
        """Unbiased estimates of the expectation and its gradient in the arguments `argnums`, from the same draws."""
        moved = argnums + 1 if isinstance(argnums, int) else tuple(one + 1 for one in argnums)
        return jax.value_and_grad(self.estimate, argnums=moved)(key, *args)

    def jvp_estimate(self, key: Array, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Array, Array]:
        """Unbiased estimates of the expectation and its derivative along `tangents`."""
        return jax.jvp(lambda *args: self.estimate(key, *args), tuple(primals), tuple(tangents))


def expectation(program: Callable[..., Any]) -> Expectation:
    r"""The expectation :math:`L(\theta) = E[f(\theta)]` of a program with random choices, as a differentiable estimate.

    Parameters
    ----------
    program
        :math:`f`: a function of arrays that draws by `sample`, may call `add_cost`, and returns a real scalar. It is
        traced by JAX. Choices may stand in `jax.jit`, `jax.vmap`, `jax.checkpoint`, `lax.cond`, `lax.switch`; in
        `lax.scan` and `while_loop` if their strategies call the rest of the program once.

    Returns
    -------
    Expectation
        With the methods ``estimate(key, *args)``, ``grad_estimate``, ``value_and_grad_estimate``, ``jvp_estimate``, all
        of which go with `jax.jit`, `jax.vmap` over keys, `jax.grad`. The key is split at each choice.

    Raises
    ------
    TypeError
        Where the value is not a real scalar, or a choice has no derivative by its strategy.
    ValueError
        Where a parameter is outside of its domain. In a compiled program the estimate is then not a number.
    NotImplementedError
        Where a choice stands where its strategy cannot be applied, and for second derivatives of measure-valued ones.

    References
    ----------
    Lew, Huot, Staton, Mansinghka, "ADEV: Sound Automatic Differentiation of Expected Values of Probabilistic Programs",
    POPL 2023. Becker et al., "Probabilistic Programming with Programmable Variational Inference", PLDI 2024.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from dini_zoo.inference.programmable_vi import Bernoulli, expectation, sample
    >>> def cost(p):
    ...     b = sample(Bernoulli(), p)  # by enumeration, if nothing else is asked for
    ...     return jnp.where(b, 0.0, -p / 2)
    >>> print(expectation(cost).grad_estimate(jax.random.key(0), 0.3))  # of -(1 - p) p / 2
    -0.19999999
    """
    if not callable(program):
        raise TypeError(f"`program` must be a function: given {program!r}.")
    return Expectation(program)


def simulate(key: Array, program: Callable[..., Any], *args: Any) -> Any:
    """Run a program with random choices once.

    Parameters
    ----------
    key
        Of all draws.
    program
        A function that draws by `sample`; costs are ignored.
    *args
        Its arguments.

    Returns
    -------
    tree
        What the program returns. It has no derivative: to differentiate it in anything that the program is given raises
        `NotImplementedError`.
    """
    _check_key(key)
    closed, operands, shape = _traced(program, args)
    outs, score, _ = drawn(closed, operands, key, pure=True)
    outs = [
        one + score.astype(one.dtype) if jnp.issubdtype(one.dtype, jnp.floating) else one
        for one in map(jnp.asarray, outs)
    ]
    inputs = [one for one in (*closed.consts, *operands) if jnp.issubdtype(jnp.result_type(one), jnp.floating)]
    return jax.tree.unflatten(jax.tree.structure(shape), _without_derivative(outs, inputs))


@jax.custom_jvp
def _without_derivative(outs: list[Array], inputs: list[Array]) -> list[Array]:
    return outs


def _refuse(primals: Any, tangents: Any) -> Any:
    zero = jax.custom_derivatives.SymbolicZero
    if all(isinstance(one, zero) for one in jax.tree.leaves(tangents, is_leaf=lambda one: isinstance(one, zero))):
        return primals[0], tangents[0]
    raise NotImplementedError(
        "`simulate` has no derivative: differentiate `expectation(program).estimate`, or stop the gradient of what the "
        "program is given."
    )


_without_derivative.defjvp(_refuse, symbolic_zeros=True)
