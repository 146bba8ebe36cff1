"""Distributions of random choices: NumPyro's samplers and densities, each with a strategy for its derivative.

A distribution is a family; its parameters are given to `sample`. The log-density of a choice is summed over all of its
elements and is minus infinity outside of the support. A value has the data type of its parameters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Self, dataclass_transform

import jax
import jax.numpy as jnp
from jax import Array

from . import phantoms
from .strategies import Strategy, enumerate_, reinforce, reparam
from .supports import inside_of, moves


def numpyro() -> Any:
    """NumPyro's distributions. Raises `ModuleNotFoundError` where they are not installed."""
    try:
        import numpyro.distributions as found
    except ImportError as error:
        raise ModuleNotFoundError(
            f"The distributions are NumPyro's, which cannot be imported ({error}). Install it: "
            "`pip install 'dini-zoo[inference]'`.",
            name="numpyro",
        ) from error
    return found


@dataclass_transform(frozen_default=True)
def _family(cls: Any) -> Any:
    """A frozen dataclass that is a pytree: a strategy, such as a baseline, may hold arrays."""
    made = dataclasses.dataclass(frozen=True)(cls)
    names = [field.name for field in dataclasses.fields(made)]
    return jax.tree_util.register_dataclass(made, data_fields=names, meta_fields=[])


class Distribution:
    """A family of distributions, with a strategy for the derivative of an expectation over a choice from it."""

    library: ClassVar[str]
    """Its name in `numpyro.distributions`."""
    parameters: ClassVar[tuple[str, ...]]
    """Their names there."""
    needs: ClassVar[str] = "finite"
    pathwise: ClassVar[bool] = True
    """Whether a draw at a given key moves smoothly with all parameters."""
    discrete: ClassVar[bool] = False
    finite: ClassVar[bool] = False
    """Whether all values can be listed."""
    moving: ClassVar[bool] = False
    """Whether the support depends on a parameter: the score then misses what happens at its ends."""
    pairs: ClassVar[Callable[..., list[phantoms.Phantom]] | None] = None
    """The measure-valued derivative."""
    strategy: Strategy

    @property
    def name(self) -> str:
        """How messages call it."""
        return type(self).__name__

    def with_strategy(self, strategy: Strategy) -> Self:
        """The same family with another strategy."""
        return dataclasses.replace(self, strategy=strategy)

    def at(self, *params: Any) -> Any:
        """NumPyro's object at these parameters."""
        named = dict(zip(self.parameters, params, strict=True))
        # parameters and values are checked here, with the address and without a warning
        return getattr(numpyro(), self.library)(**named, validate_args=False)

    def draw(self, key: Array, *params: Any) -> Array:
        """A value."""
        # a number between two whole ones is none of theirs
        kind = int if self.discrete else jnp.result_type(*params, float)
        return self.at(*params).sample(key).astype(kind)

    def log_prob(self, value: Any, *params: Any) -> Array:
        """The log-density of a value, summed over its elements.

        Raises `ValueError` for a value of another shape than a draw's: it would be broadcast, and the sum has too much.
        """
        made = self.at(*params)
        if hasattr(made, "batch_shape") and jnp.shape(value) != (*made.batch_shape, *made.event_shape):
            raise ValueError(
                f"The value of {self.name} must have the shape {(*made.batch_shape, *made.event_shape)}: given "
                f"{jnp.shape(value)}."
            )
        return jnp.sum(_log_prob(made, value))

    def cdf(self, value: Any, *params: Any) -> Array:
        """The distribution function."""
        return self.at(*params).cdf(value)

    def support(self, *params: Any) -> tuple[Array, Array]:
        """All values of an element, and their probabilities along the last axis of one array for all elements."""
        raise NotImplementedError

    def valid(self, *params: Any) -> Array:
        """Whether the parameters are in their domain."""
        made, library = self.at(*params), numpyro()
        known = {name: one for name, one in made.arg_constraints.items() if name in vars(made)}
        holds = [
            jnp.all(constraint(getattr(made, name)))
            for name, constraint in known.items()
            if not library.constraints.is_dependent(constraint)
        ]
        return jnp.all(jnp.array(holds))


def _log_prob(made: Any, value: Any) -> Array:
    """NumPyro's log-density, which need not see that a value is outside of the support."""
    support = getattr(made, "support", None)
    if support is None or support is numpyro().constraints.real:
        return made.log_prob(value)
    value = jnp.asarray(value)
    axes = tuple(range(value.ndim - support.event_dim, value.ndim))
    nan = (value != value).any(axes)
    # what is not a number is not outside: it stays what it is
    inside = inside_of(made, value) | nan
    whole = inside[(..., *(None for _ in axes))]
    found = made.log_prob(jnp.where(whole, value, support.feasible_like(value)))
    return jnp.where(nan, jnp.nan, jnp.where(inside, found, -jnp.inf))


class _LocationScale(Distribution):
    parameters = ("loc", "scale")
    needs = "finite, the scale positive"


@_family
class Normal(_LocationScale):
    r"""The normal distribution :math:`N(\mu, \sigma^2)`: ``loc`` and the standard deviation ``scale``."""

    library = "Normal"
    pairs = staticmethod(phantoms.normal)
    strategy: Strategy = reparam()


@_family
class MvNormalDiag(_LocationScale):
    """A vector of independent normal elements: ``loc`` and the standard deviations ``scale``."""

    library = "Normal"
    pairs = staticmethod(phantoms.normal)
    strategy: Strategy = reparam()


@_family
class MvNormal(Distribution):
    r"""The normal distribution :math:`N(\mu, L L^\top)`: ``loc`` and the lower triangular ``scale_tril`` :math:`L`."""

    library = "MultivariateNormal"
    parameters = ("loc", "scale_tril")
    needs = "finite, scale_tril lower triangular with a positive diagonal"
    strategy: Strategy = reparam()


@_family
class LogNormal(_LocationScale):
    """The exponential of a normal choice."""

    library = "LogNormal"
    strategy: Strategy = reparam()


@_family
class Laplace(_LocationScale):
    """Laplace's distribution."""

    library = "Laplace"
    strategy: Strategy = reparam()


@_family
class Logistic(_LocationScale):
    """The logistic distribution."""

    library = "Logistic"
    strategy: Strategy = reparam()


@_family
class Gumbel(_LocationScale):
    """Gumbel's distribution."""

    library = "Gumbel"
    strategy: Strategy = reparam()


@_family
class Uniform(Distribution):
    """The uniform distribution from ``low`` to ``high``."""

    library = "Uniform"
    parameters = ("low", "high")
    needs = "finite, the first below the second"
    moving = True
    strategy: Strategy = reparam()

    def valid(self, *params: Any) -> Array:
        low, high = params
        return jnp.all((low < high) & jnp.isfinite(low) & jnp.isfinite(high))


@_family
class Exponential(Distribution):
    """The exponential distribution of a ``rate``."""

    library = "Exponential"
    parameters = ("rate",)
    needs = "positive"
    pairs = staticmethod(phantoms.exponential)
    strategy: Strategy = reparam()


@_family
class Gamma(Distribution):
    """The gamma distribution of ``concentration`` and ``rate``; JAX's sampler has the implicit derivative."""

    library = "Gamma"
    parameters = ("concentration", "rate")
    needs = "positive"
    strategy: Strategy = reparam()


@_family
class Beta(Distribution):
    """The beta distribution of two concentrations."""

    library = "Beta"
    parameters = ("concentration1", "concentration0")
    needs = "positive"
    strategy: Strategy = reparam()


@_family
class Dirichlet(Distribution):
    """Dirichlet's distribution of a vector of concentrations."""

    library = "Dirichlet"
    parameters = ("concentration",)
    needs = "positive"
    strategy: Strategy = reparam()


class _Discrete(Distribution):
    pathwise = False
    discrete = True


@_family
class Bernoulli(_Discrete):
    """One with probability ``probs``, else zero."""

    library = "BernoulliProbs"
    parameters = ("probs",)
    needs = "from 0 to 1"
    finite = True
    pairs = staticmethod(phantoms.bernoulli)
    strategy: Strategy = enumerate_()

    def support(self, *params: Any) -> tuple[Array, Array]:
        (probs,) = params
        return jnp.arange(2), jnp.stack([1 - probs, probs], axis=-1)


@_family
class Categorical(_Discrete):
    """A number from 0 on, with the probabilities of the last axis of ``probs``."""

    library = "CategoricalProbs"
    parameters = ("probs",)
    needs = "at least 0, with the sum 1"
    finite = True
    strategy: Strategy = enumerate_()

    def support(self, *params: Any) -> tuple[Array, Array]:
        (probs,) = params
        return jnp.arange(probs.shape[-1]), probs

    def valid(self, *params: Any) -> Array:
        (probs,) = params
        # a sum of many numbers is rounded: NumPyro's bound is too narrow for it in single precision
        rounding = jnp.finfo(probs.dtype).eps ** 0.5
        return jnp.all(probs >= 0) & jnp.all(jnp.abs(jnp.sum(probs, axis=-1) - 1) <= rounding)


@_family
class Poisson(_Discrete):
    """Poisson's distribution of a ``rate``."""

    library = "Poisson"
    parameters = ("rate",)
    needs = "positive"
    pairs = staticmethod(phantoms.poisson)
    strategy: Strategy = reinforce()


@_family
class Geometric(_Discrete):
    """Failures before the first success, which has the probability ``probs``."""

    library = "GeometricProbs"
    parameters = ("probs",)
    needs = "above 0, at most 1"
    pairs = staticmethod(phantoms.geometric)
    strategy: Strategy = reinforce()

    def valid(self, *params: Any) -> Array:
        (probs,) = params
        return jnp.all((probs > 0) & (probs <= 1))


@_family
class FromLibrary(Distribution):
    """An object of NumPyro's, or another pytree with ``sample(key)`` and ``log_prob(value)``; see `from_library`."""

    made: Any
    strategy: Strategy
    parameters = ()
    needs = "in their domains"

    @property
    def name(self) -> str:
        return type(self.made).__name__

    @property
    def pathwise(self) -> bool:
        return getattr(self.made, "has_rsample", False)

    @property
    def discrete(self) -> bool:
        return getattr(self.made, "is_discrete", not self.pathwise)

    @property
    def finite(self) -> bool:
        return getattr(self.made, "has_enumerate_support", False) and not self.made.event_shape

    @property
    def moving(self) -> bool:
        return not self.discrete and moves(self.made)

    def at(self, *params: Any) -> Any:
        return self.made

    def draw(self, key: Array, *params: Any) -> Array:
        return jnp.asarray(self.made.sample(key))

    def support(self, *params: Any) -> tuple[Array, Array]:
        values = self.made.enumerate_support(expand=False)
        return values.ravel(), jnp.moveaxis(jnp.exp(self.made.log_prob(values)), 0, -1)

    def valid(self, *params: Any) -> Array:
        return super().valid() if hasattr(self.made, "arg_constraints") else jnp.array(True)


def from_library(made: Any, strategy: Strategy | None = None) -> FromLibrary:
    """An object of NumPyro's, or another pytree with ``sample(key)`` and ``log_prob(value)``, with a strategy.

    Parameters
    ----------
    made
        The object, with its parameters in it. An object that is not NumPyro's has a pathwise derivative if its
        ``has_rsample`` is true, and its support must not depend on its parameters.
    strategy
        Reparametrization where the object has one, else enumeration where its values can be listed, else REINFORCE.

    Raises
    ------
    TypeError
        Where it is not such an object.
    """
    if not (hasattr(made, "sample") and hasattr(made, "log_prob")) or isinstance(made, type):
        raise TypeError(
            "A distribution must be one of `programmable_vi`, such as `Normal()`, a generative function, or an object "
            f"with `sample(key)` and `log_prob(value)`: given {made!r}."
        )
    found = FromLibrary(made, reinforce() if strategy is None else strategy)
    if strategy is None and found.pathwise:
        return found.with_strategy(reparam())
    return found.with_strategy(enumerate_()) if strategy is None and found.finite else found
