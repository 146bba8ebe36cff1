"""Every public name of JAXopt 0.8.5 and every argument of its classes is here; both are written down as data.

They were read from the installed package: the names that its modules define, and the fields of its dataclasses.
"""

import dataclasses
import importlib
import inspect
import pkgutil
import re

import pytest

import dini_jaxopt as jaxopt
from dini_jaxopt._table import TABLE

NAMES = {
    "": (
        "AndersonAcceleration AndersonWrapper ArmijoSGD BFGS BacktrackingLineSearch Bisection "
        "BlockCoordinateDescent BoxCDQP BoxOSQP Broyden CvxpyQP EqualityConstrainedQP FixedPointIteration "
        "GaussNewton GradientDescent HagerZhangLineSearch IterativeRefinement LBFGS LBFGSB LevenbergMarquardt "
        "MirrorDescent NonlinearCG OSQP OptStep OptaxSolver PolyakSGD ProjectedGradient ProximalGradient "
        "ScipyBoundedLeastSquares ScipyBoundedMinimize ScipyLeastSquares ScipyMinimize ScipyRootFinding "
        "ZoomLineSearch base cond implicit_diff isotonic linear_solve loop loss objective perturbations "
        "projection prox tree_util"
    ),
    "base": ("IterativeSolver KKTSolution LinearOperator OptStep StochasticSolver"),
    "cond": ("cond"),
    "implicit_diff": ("custom_fixed_point custom_root root_jvp root_vjp"),
    "isotonic": ("isotonic_l2_pav"),
    "linear_solve": (
        "solve_bicgstab solve_cg solve_cholesky solve_gmres solve_inv solve_iterative_refinement solve_lu "
        "solve_normal_cg solve_qr"
    ),
    "loop": ("while_loop"),
    "loss": (
        "binary_hinge_loss binary_logistic_loss binary_perceptron_loss binary_sparsemax_loss huber_loss "
        "make_fenchel_young_loss multiclass_hinge_loss multiclass_logistic_loss multiclass_perceptron_loss "
        "multiclass_sparsemax_loss sparse_plus sparse_sigmoid"
    ),
    "objective": (
        "CompositeLinearFunction binary_logreg l2_multiclass_logreg l2_multiclass_logreg_with_intercept "
        "least_squares multiclass_linear_svm_dual multiclass_logreg multiclass_logreg_with_intercept "
        "ridge_regression"
    ),
    "perturbations": ("Gumbel Normal make_perturbed_argmax make_perturbed_fun make_perturbed_max"),
    "projection": (
        "kl_projection_birkhoff kl_projection_transport projection_affine_set projection_birkhoff projection_box "
        "projection_box_section projection_halfspace projection_hypercube projection_hyperplane "
        "projection_l1_ball projection_l1_sphere projection_l2_ball projection_l2_sphere projection_linf_ball "
        "projection_non_negative projection_polyhedron projection_simplex projection_sparse_simplex "
        "projection_transport"
    ),
    "prox": (
        "make_prox_from_projection prox_elastic_net prox_group_lasso prox_lasso prox_non_negative_lasso "
        "prox_non_negative_ridge prox_none prox_ridge"
    ),
    "tree_util": (
        "broadcast_pytrees tree_add_scalar_mul tree_conj tree_dot tree_imag tree_inf_norm tree_l2_norm "
        "tree_negative tree_ones_like tree_real tree_scalar_mul tree_sum tree_vdot tree_vdot_real tree_where "
        "tree_zeros_like"
    ),
}

FIELDS = {
    "AndersonAcceleration": (
        "fixed_point_fun history_size mixing_frequency beta maxiter tol ridge has_aux verbose implicit_diff "
        "implicit_diff_solve jit unroll"
    ),
    "AndersonWrapper": (
        "solver history_size mixing_frequency beta ridge verbose implicit_diff implicit_diff_solve jit unroll"
    ),
    "ArmijoSGD": (
        "fun value_and_grad has_aux aggressiveness decrease_factor increase_factor reset_option momentum "
        "max_stepsize pre_update maxiter maxls tol verbose implicit_diff implicit_diff_solve jit unroll"
    ),
    "BFGS": (
        "fun value_and_grad has_aux maxiter tol stepsize linesearch linesearch_init condition maxls "
        "decrease_factor increase_factor max_stepsize min_stepsize implicit_diff implicit_diff_solve jit unroll "
        "verbose"
    ),
    "BacktrackingLineSearch": (
        "fun value_and_grad has_aux maxiter tol condition c1 c2 decrease_factor max_stepsize verbose jit unroll"
    ),
    "Bisection": (
        "optimality_fun lower upper maxiter tol check_bracket verbose implicit_diff_solve has_aux jit unroll"
    ),
    "BlockCoordinateDescent": ("fun block_prox maxiter tol verbose implicit_diff implicit_diff_solve jit unroll"),
    "BoxCDQP": ("maxiter tol verbose implicit_diff implicit_diff_solve jit unroll"),
    "BoxOSQP": (
        "matvec_Q matvec_A fun check_primal_dual_infeasability sigma momentum eq_qp_solve rho_start rho_min "
        "rho_max stepsize_updates_frequency primal_infeasible_tol dual_infeasible_tol maxiter tol "
        "termination_check_frequency verbose implicit_diff implicit_diff_solve jit unroll"
    ),
    "Broyden": (
        "fun has_aux maxiter tol stepsize linesearch stop_if_linesearch_fails condition maxls decrease_factor "
        "increase_factor max_stepsize min_stepsize history_size gamma implicit_diff implicit_diff_solve jit "
        "unroll verbose"
    ),
    "CvxpyQP": ("solver implicit_diff_solve"),
    "EqualityConstrainedQP": (
        "matvec_Q matvec_A fun solve refine_regularization refine_maxiter maxiter tol implicit_diff_solve jit"
    ),
    "FixedPointIteration": ("fixed_point_fun maxiter tol has_aux verbose implicit_diff implicit_diff_solve jit unroll"),
    "GaussNewton": ("residual_fun maxiter tol implicit_diff implicit_diff_solve has_aux verbose jit unroll"),
    "GradientDescent": (
        "fun prox value_and_grad has_aux stepsize maxiter maxls tol acceleration decrease_factor verbose "
        "implicit_diff implicit_diff_solve jit unroll"
    ),
    "HagerZhangLineSearch": (
        "fun value_and_grad has_aux maxiter tol c1 c2 expansion_factor shrinkage_factor max_stepsize verbose jit unroll"
    ),
    "IterativeRefinement": ("matvec_A matvec_A_bar solve maxiter tol verbose implicit_diff_solve jit unroll"),
    "LBFGS": (
        "fun value_and_grad has_aux maxiter tol stepsize linesearch linesearch_init stop_if_linesearch_fails "
        "condition maxls decrease_factor increase_factor max_stepsize min_stepsize history_size use_gamma "
        "implicit_diff implicit_diff_solve jit unroll verbose"
    ),
    "LBFGSB": (
        "fun value_and_grad has_aux maxiter tol stepsize linesearch linesearch_init stop_if_linesearch_fails "
        "condition maxls decrease_factor increase_factor max_stepsize min_stepsize theta history_size use_gamma "
        "implicit_diff implicit_diff_solve jit unroll verbose"
    ),
    "LevenbergMarquardt": (
        "residual_fun maxiter damping_parameter stop_criterion tol xtol gtol solver geodesic verbose jac_fun "
        "materialize_jac implicit_diff implicit_diff_solve has_aux jit unroll"
    ),
    "MirrorDescent": (
        "fun projection_grad stepsize maxiter tol verbose implicit_diff implicit_diff_solve has_aux jit unroll"
    ),
    "NonlinearCG": (
        "fun value_and_grad has_aux maxiter tol method linesearch linesearch_init condition maxls "
        "decrease_factor increase_factor max_stepsize min_stepsize implicit_diff implicit_diff_solve jit unroll "
        "verbose"
    ),
    "OptaxSolver": (
        "fun opt value_and_grad pre_update maxiter tol verbose implicit_diff implicit_diff_solve has_aux jit unroll"
    ),
    "PolyakSGD": (
        "fun value_and_grad has_aux fun_min variant max_stepsize delta momentum pre_update maxiter tol verbose "
        "implicit_diff implicit_diff_solve jit unroll"
    ),
    "ProjectedGradient": (
        "fun projection value_and_grad has_aux stepsize maxiter maxls tol acceleration decrease_factor verbose "
        "implicit_diff implicit_diff_solve jit unroll"
    ),
    "ProximalGradient": (
        "fun prox value_and_grad has_aux stepsize maxiter maxls tol acceleration decrease_factor verbose "
        "implicit_diff implicit_diff_solve jit unroll"
    ),
    "ScipyBoundedLeastSquares": ("method dtype jit implicit_diff_solve has_aux fun loss options use_jacrev"),
    "ScipyBoundedMinimize": (
        "method dtype jit implicit_diff_solve has_aux fun callback tol options maxiter value_and_grad"
    ),
    "ScipyLeastSquares": ("method dtype jit implicit_diff_solve has_aux fun loss options use_jacrev"),
    "ScipyMinimize": ("method dtype jit implicit_diff_solve has_aux fun callback tol options maxiter value_and_grad"),
    "ScipyRootFinding": ("method dtype jit implicit_diff_solve has_aux optimality_fun tol options use_jacrev"),
    "ZoomLineSearch": (
        "fun value_and_grad has_aux c1 c2 c3 rel_tol_cubic rel_tol_quad interval_threshold increase_factor tol "
        "maxiter max_stepsize verbose jit unroll"
    ),
}

#: defaults that a user may notice, each with the classes that have it
DEFAULTS = (
    ("acceleration", True, "GradientDescent ProjectedGradient ProximalGradient"),
    ("beta", 1.0, "AndersonAcceleration AndersonWrapper"),
    ("history_size", 10, "LBFGS LBFGSB"),
    ("history_size", 5, "AndersonAcceleration AndersonWrapper"),
    ("history_size", None, "Broyden"),
    ("implicit_diff", False, "ArmijoSGD OptaxSolver PolyakSGD"),
    (
        "implicit_diff",
        True,
        "AndersonAcceleration AndersonWrapper BFGS BlockCoordinateDescent BoxCDQP BoxOSQP Broyden "
        "FixedPointIteration GaussNewton GradientDescent LBFGS LBFGSB LevenbergMarquardt MirrorDescent "
        "NonlinearCG ProjectedGradient ProximalGradient",
    ),
    ("linesearch", "backtracking", "Broyden"),
    ("linesearch", "zoom", "BFGS LBFGS LBFGSB NonlinearCG"),
    (
        "max_stepsize",
        1.0,
        "ArmijoSGD BFGS BacktrackingLineSearch Broyden HagerZhangLineSearch LBFGS LBFGSB NonlinearCG PolyakSGD",
    ),
    ("max_stepsize", None, "ZoomLineSearch"),
    ("maxiter", 10, "IterativeRefinement"),
    ("maxiter", 100, "AndersonAcceleration FixedPointIteration NonlinearCG"),
    ("maxiter", 1000, "EqualityConstrainedQP"),
    (
        "maxiter",
        30,
        "BacktrackingLineSearch Bisection GaussNewton HagerZhangLineSearch LevenbergMarquardt ZoomLineSearch",
    ),
    ("maxiter", 4000, "BoxOSQP"),
    ("maxiter", 50, "LBFGSB"),
    (
        "maxiter",
        500,
        "ArmijoSGD BFGS BlockCoordinateDescent BoxCDQP Broyden GradientDescent LBFGS MirrorDescent "
        "OptaxSolver PolyakSGD ProjectedGradient ProximalGradient ScipyBoundedMinimize ScipyMinimize",
    ),
    ("maxls", 15, "ArmijoSGD Broyden GradientDescent ProjectedGradient ProximalGradient"),
    ("maxls", 30, "BFGS LBFGS LBFGSB NonlinearCG"),
    ("method", "polak-ribiere", "NonlinearCG"),
    (
        "method",
        None,
        "ScipyBoundedLeastSquares ScipyBoundedMinimize ScipyLeastSquares ScipyMinimize ScipyRootFinding",
    ),
    ("momentum", 0.0, "ArmijoSGD PolyakSGD"),
    ("momentum", 1.6, "BoxOSQP"),
    ("stepsize", 0.0, "BFGS Broyden GradientDescent LBFGS LBFGSB ProjectedGradient ProximalGradient"),
    ("tol", 0.0, "BacktrackingLineSearch HagerZhangLineSearch ZoomLineSearch"),
    ("tol", 0.0001, "BlockCoordinateDescent BoxCDQP"),
    (
        "tol",
        0.001,
        "ArmijoSGD BFGS BoxOSQP Broyden GradientDescent LBFGS LBFGSB LevenbergMarquardt NonlinearCG "
        "OptaxSolver PolyakSGD ProjectedGradient ProximalGradient",
    ),
    ("tol", 0.01, "MirrorDescent"),
    ("tol", 1e-05, "AndersonAcceleration Bisection EqualityConstrainedQP FixedPointIteration GaussNewton"),
    ("tol", 1e-07, "IterativeRefinement"),
    ("tol", None, "ScipyBoundedMinimize ScipyMinimize ScipyRootFinding"),
)


@pytest.mark.parametrize("module", NAMES, ids=lambda name: name or "jaxopt")
def test_every_name_is_there(module):
    found = jaxopt if not module else importlib.import_module(f"dini_jaxopt.{module}")
    assert [name for name in NAMES[module].split() if not hasattr(found, name)] == []
    assert set(NAMES[module].split()) <= set(found.__all__)


@pytest.mark.parametrize("name", FIELDS)
def test_classes_take_the_same_arguments_in_the_same_order(name):
    made = getattr(jaxopt, name)
    assert [each.name for each in dataclasses.fields(made)] == FIELDS[name].split()
    assert list(inspect.signature(made).parameters)[: len(FIELDS[name].split())] == FIELDS[name].split()
    defaults = {each.name: each.default for each in dataclasses.fields(made)}
    for field, default, classes in DEFAULTS:
        if name in classes.split():
            assert defaults[field] == default, field


def resolved(name):
    """Return what a reference of a docstring names."""
    found = pkgutil.resolve_name(name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", FIELDS)
def test_docstrings_say_what_becomes_of_each_argument(name):
    made = TABLE[name]
    assert made is getattr(jaxopt, name)
    head, _, rest = made.__doc__.partition("Parameters\n----------\n")
    rest = rest.partition("Examples\n--------\n")[0]
    told = [each for line in rest.splitlines() if line and line[0] != " " for each in line.split(", ")]
    assert sorted(told) == sorted(each.name for each in dataclasses.fields(made))
    references = re.findall(r":(?:class|func):`(dini[.\w]*)`", made.__doc__)
    assert all(map(resolved, references))
    if name not in ("IterativeRefinement",):
        assert any(reference in head for reference in references), "no class of dini is named"
    solver = resolved(f"dini.{made.solver_name}") if made.renamed else None
    for theirs, ours in made.renamed.items():
        assert theirs in told
        assert ours in inspect.signature(solver).parameters


def test_objects_are_dataclasses_that_can_be_keys():
    solver = jaxopt.LBFGS(fun=abs, maxiter=3)
    assert dataclasses.replace(solver, maxiter=4).maxiter == 4
    assert {solver: 1}[solver] == 1
    assert solver != jaxopt.LBFGS(fun=abs, maxiter=3)
    assert solver.attribute_values()[solver.attribute_names().index("maxiter")] == 3


def test_a_name_that_is_not_there_says_where_to_look():
    with pytest.raises(TypeError, match="unexpected keyword argument 'max_steps'"):
        jaxopt.LBFGS(fun=abs, max_steps=3)
