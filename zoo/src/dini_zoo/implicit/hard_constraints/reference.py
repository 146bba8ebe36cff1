"""The solution of diffusion-sorption by the method of lines."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.integrate import solve_ivp
from scipy.sparse import diags_array

from .diffusion_sorption import FLOOR, DiffusionSorption


def method_of_lines(
    equation: DiffusionSorption, initial: float, *, cells: int = 128, tolerance: float = 1e-6
) -> Float[np.ndarray, "t x"]:
    r"""The solution on the equation's mesh, from a constant initial concentration.

    Cells of width $h$ hold their means; a cell beyond each end gives the mean of both the value on the end and their
    difference the slope there, so that the boundary conditions hold. The method of integration is BDF, and the values
    on the mesh are interpolated linearly.

    Parameters
    ----------
    equation
        Says the coefficients and the mesh.
    initial
        The concentration at the beginning.
    cells
        The number of cells.
    tolerance
        Absolute and relative, of the integration.

    Raises
    ------
    ValueError
        For more cells than the condition at the right end allows.
    RuntimeError
        Where the integration fails.
    """
    h = 1 / cells
    conductance = equation.diffusivity / h
    # the condition at the right end has a solution that grows within a layer of width D: it must not be resolved
    if not 0 < conductance < 0.5:
        raise ValueError(
            f"method_of_lines' cells must be less than {0.5 / equation.diffusivity:.0f}, the inverse of twice the "
            f"diffusivity: given {cells}."
        )
    outflow = (conductance + 0.5) / (conductance - 0.5)
    strength = equation.sorption_strength

    def rate(_: float, u: Float[np.ndarray, " cells"]) -> Float[np.ndarray, " cells"]:
        padded = np.concatenate([[2 - u[0]], u, [outflow * u[-1]]])
        retardation = 1 + strength * (np.maximum(u, 0) + FLOOR) ** (equation.exponent - 1)
        return equation.diffusivity / retardation * np.diff(padded, 2) / h**2

    neighbors = diags_array([np.ones(cells - 1), np.ones(cells), np.ones(cells - 1)], offsets=[-1, 0, 1])
    found = solve_ivp(
        rate,
        (0, equation.duration),
        np.full(cells, float(initial)),
        method="BDF",
        t_eval=equation.t,
        rtol=tolerance,
        atol=tolerance,
        jac_sparsity=neighbors,
    )
    if not found.success:
        raise RuntimeError(f"The method of lines failed: {found.message}")
    u = found.y.T
    end = u[:, -1] * (1 + outflow) / 2
    places = np.concatenate([[0], (np.arange(cells) + 0.5) * h, [1]])
    rows = np.column_stack([np.ones(len(u)), u, end])
    solution = np.stack([np.interp(equation.x, places, row) for row in rows])
    solution[0] = initial
    return solution
