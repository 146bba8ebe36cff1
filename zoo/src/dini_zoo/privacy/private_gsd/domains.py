"""Tables of categorical and real columns, with bounds that are public.

A column's values are known before the data are: bounds or categories that are read off a sensitive table tell of it,
and no budget pays for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, known


@dataclass(frozen=True)
class Categorical:
    """A column of `size` categories, the numbers `0, ..., size - 1`."""

    size: int

    def __post_init__(self) -> None:
        at_least("size", self.size, 1)


@dataclass(frozen=True)
class Real:
    """A column of numbers in `[low, high]`, in the data's units."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not (self.low < self.high and np.isfinite(self.high - self.low)):
            raise ValueError(f"low must be less than high, and both finite: given {self.low} and {self.high}.")


@dataclass(frozen=True)
class Domain:
    """The columns of a table, by name and in order.

    Rows are vectors with a number for each column: a category, or a real value scaled to `[0, 1]` by its bounds.

    Raises
    ------
    ValueError
        Where there is no column, or one is neither `Categorical` nor `Real`.

    Examples
    --------
    >>> domain = Domain.of({"married": Categorical(2), "income": Real(0, 50_000)})
    >>> domain.names, domain.sizes
    (('married', 'income'), (2, 0))
    """

    columns: tuple[tuple[str, Categorical | Real], ...]

    def __post_init__(self) -> None:
        if not self.columns:
            raise ValueError("columns must have at least one column: given none.")
        for name, column in self.columns:
            if not isinstance(column, Categorical | Real):
                raise ValueError(f"The column {name!r} must be Categorical or Real: given {column!r}.")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"The names of columns must differ: given {list(self.names)}.")

    @classmethod
    def of(cls, columns: Mapping[str, Categorical | Real]) -> Domain:
        """The domain of columns by name."""
        return cls(tuple(columns.items()))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return tuple(name for name, _ in self.columns)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Of each column the number of categories, zero for a real one."""
        return tuple(column.size if isinstance(column, Categorical) else 0 for _, column in self.columns)

    @property
    def categorical(self) -> tuple[int, ...]:
        """The indices of categorical columns."""
        return tuple(i for i, size in enumerate(self.sizes) if size)

    @property
    def real(self) -> tuple[int, ...]:
        """The indices of real columns."""
        return tuple(i for i, size in enumerate(self.sizes) if not size)

    def select(self, names: Iterable[str]) -> Domain:
        """The domain of some of the columns, in the order that is given."""
        return Domain(tuple(self.columns[self.index(name)] for name in names))

    def index(self, name: str) -> int:
        """Where a column stands; raises `ValueError` where no column has the name."""
        if name not in self.names:
            raise ValueError(f"A column must be one of {', '.join(self.names)}: given {name!r}.")
        return self.names.index(name)

    def uniform(self, key: jax.Array, shape: tuple[int, ...]) -> Float[Array, "*shape d"]:
        """Rows whose values are independent and uniform over each column's domain."""
        u = jax.random.uniform(key, (*shape, len(self.columns)))
        sizes = jnp.array(self.sizes)
        # u times a size may round up to the size itself
        categories = jnp.minimum(jnp.floor(u * sizes), sizes - 1)
        return jnp.where(sizes > 0, categories, u).astype(u.dtype)


@dataclass(frozen=True)
class Table:
    """Rows of a domain, of which there is one at least.

    `Table.of` makes one of data in their own units; `values` gives these units back.

    Raises
    ------
    ValueError
        Where there is no row, or a number is not in its column's domain, scaled as `Domain` says.
    """

    rows: Float[Array, "n d"]
    domain: Domain

    def __post_init__(self) -> None:
        d = len(self.domain.columns)
        if np.ndim(self.rows) != 2 or np.shape(self.rows)[1] != d or not len(self.rows):
            raise ValueError(f"rows must have shape (n, {d}) with at least one row: given {np.shape(self.rows)}.")
        if known(self.rows):
            sizes = np.array(self.domain.sizes)
            rows = np.asarray(self.rows, float)
            whole = (rows == np.floor(rows)) & (rows < sizes)
            right = (rows >= 0) & np.where(sizes > 0, whole, rows <= 1)
            if not right.all():
                name = self.domain.names[int(np.argmin(right.all(axis=0)))]
                raise ValueError(
                    f"rows must have categories, or real values scaled to [0, 1], NaN in no place: given others in the "
                    f"column {name!r}. Table.of takes values in their own units."
                )

    @classmethod
    def of(cls, values: Float[Array, "n d"], domain: Domain, *, clip: bool = False) -> Table:
        """The table of values in their own units.

        Parameters
        ----------
        values
            A row for each record, a number for each column.
        domain
            The columns, with public bounds.
        clip
            Whether real values outside their bounds are moved to the nearer one, which changes a record by nothing but
            itself, and so costs no privacy.

        Raises
        ------
        ValueError
            Where the shape does not fit, there is no row, or a value is not in its column's domain: NaN, a number that
            is no category, a real value out of bounds. What is raised depends on the data: it is for their owner's
            eyes.
        """
        values = np.asarray(values, float)
        if values.ndim != 2 or values.shape[1] != len(domain.columns) or not len(values):
            raise ValueError(
                f"values must have shape (n, {len(domain.columns)}) with at least one row: given {values.shape}."
            )
        rows = np.empty_like(values)
        for j, (name, column) in enumerate(domain.columns):
            given = values[:, j]
            if np.isnan(given).any():
                raise ValueError(f"The column {name!r} must have no NaN: given {int(np.isnan(given).sum())} of them.")
            if isinstance(column, Categorical):
                wrong = (given < 0) | (given >= column.size) | (given != np.floor(given))
                needs, rows[:, j] = f"be one of the categories 0 to {column.size - 1}", given
            else:
                given = np.clip(given, column.low, column.high) if clip else given
                wrong = (given < column.low) | (given > column.high)
                needs, rows[:, j] = (
                    f"be in [{column.low:g}, {column.high:g}]",
                    np.clip((given - column.low) / (column.high - column.low), 0, 1),
                )
            if wrong.any():
                raise ValueError(f"The column {name!r} must {needs}: given {given[wrong][0]:g}.")
        return cls(jnp.asarray(rows), domain)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def values(self) -> Float[np.ndarray, "n d"]:
        """The rows in their own units."""
        rows = np.array(self.rows, float)
        for j, (_, column) in enumerate(self.domain.columns):
            if isinstance(column, Real):
                rows[:, j] = column.low + (column.high - column.low) * rows[:, j]
        return rows

    def select(self, names: Iterable[str]) -> Table:
        """Some of the columns."""
        names = list(names)
        at = np.array([self.domain.index(name) for name in names])
        return Table(self.rows[:, at], self.domain.select(names))
