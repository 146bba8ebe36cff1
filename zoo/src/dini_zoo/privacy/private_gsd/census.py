"""Earnings and schooling of 15,992 people of the Current Population Survey, from the package causaldata.

The bounds are set beforehand: ages of 16 to 55 years, up to 18 years of schooling, dollars up to 26,000.
"""

from __future__ import annotations

import numpy as np

from .domains import Categorical, Domain, Real, Table

DOMAIN = Domain.of(
    {
        "age": Categorical(40),
        "educ": Categorical(19),
        "black": Categorical(2),
        "hisp": Categorical(2),
        "marr": Categorical(2),
        "nodegree": Categorical(2),
        "re74": Real(0, 26_000),
        "re75": Real(0, 26_000),
        "re78": Real(0, 26_000),
    }
)
#: The columns of conditions on real values.
FEW = ("black", "hisp", "marr", "nodegree", "re74", "re75", "re78")


def census() -> Table:
    """The table. Raises `ModuleNotFoundError` without causaldata (the extra `privacy`)."""
    from causaldata import cps_mixtape

    values = cps_mixtape.load_pandas().data[list(DOMAIN.names)].to_numpy(float)
    values[:, 0] -= 16
    return Table.of(values, DOMAIN, clip=True)


def parted(table: Table, share: float = 0.2) -> tuple[Table, Table]:
    """The table without a share of its rows, and these, to test with: always the same ones."""
    out = np.random.RandomState(0).rand(len(table)) < share
    return Table(table.rows[~out], table.domain), Table(table.rows[out], table.domain)
