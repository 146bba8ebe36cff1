r"""JAXopt's linear solves, by :func:`dini.linear.solve`.

Each solves :math:`A x = b` for a function ``matvec``, whose matrix has :math:`\lambda I` added for ``ridge``
:math:`\lambda`; ``b`` is a tree. All are differentiable in forward and reverse mode, and test the true residual: a
dense matrix that is singular raises (a lane of ``vmap`` is NaN), and an iterative solver that ends early warns with a
:class:`dini.SolveWarning`, for who passes ``maxiter`` may want no more than that many steps.
"""

from ._iterative_refinement import solve_iterative_refinement
from ._linear_solves import (
    solve_bicgstab,
    solve_cg,
    solve_cholesky,
    solve_gmres,
    solve_inv,
    solve_lu,
    solve_normal_cg,
    solve_qr,
)

__all__ = [
    "solve_bicgstab",
    "solve_cg",
    "solve_cholesky",
    "solve_gmres",
    "solve_inv",
    "solve_iterative_refinement",
    "solve_lu",
    "solve_normal_cg",
    "solve_qr",
]
