"""Linear and integer programs, handed to OR-Tools: the one file that knows it.

Programs go over as protocol buffers, arrays at once, because building them variable by variable takes
longer than solving them.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from enum import StrEnum
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ortools.math_opt import callback_pb2, model_parameters_pb2, model_pb2, parameters_pb2, result_pb2
from ortools.math_opt.core.python import solver as core
from ortools.math_opt.python.solve import StatusNotOk
from ortools.math_opt.solvers import highs_pb2
from ortools.pdlp import solvers_pb2

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Answer(StrEnum):
    """What a solver found."""

    OPTIMAL = "OPTIMAL"
    FEASIBLE = "FEASIBLE"
    INFEASIBLE = "INFEASIBLE"
    UNKNOWN = "UNKNOWN"


class Solver(StrEnum):
    """Which solver of OR-Tools."""

    GLOP = "GLOP"  # simplex
    PDLP = "PDLP"  # first-order, approximate
    HIGHS = "HIGHS"  # branch and cut
    CP_SAT = "CP_SAT"  # clause learning, integers only


@dataclass(frozen=True, kw_only=True)
class Program:
    """Maximise value·x, row_low ≤ A x ≤ row_high, low ≤ x ≤ high; A as compressed rows."""

    #: objective by variable
    value: Floats
    low: Floats
    high: Floats
    #: which variables are whole numbers
    whole: NDArray[np.bool_]
    #: row r holds entries starts[r]:starts[r+1] of columns (ascending in a row) and coefficients
    starts: Ints
    columns: Ints
    coefficients: Floats
    row_low: Floats
    row_high: Floats


@dataclass(frozen=True, kw_only=True)
class Solved:
    """What came back."""

    answer: Answer
    #: by variable; None when nothing was found
    x: Floats | None
    #: value of x
    objective: float
    #: no x is worth more, to the solver's tolerance; inf when unknown
    bound: float
    #: by row, for linear programs: gain in objective per unit of its bound; None when unknown
    prices: Floats | None


_REASONS = {
    result_pb2.TERMINATION_REASON_OPTIMAL: Answer.OPTIMAL,
    result_pb2.TERMINATION_REASON_INFEASIBLE: Answer.INFEASIBLE,
    result_pb2.TERMINATION_REASON_FEASIBLE: Answer.FEASIBLE,
}


def solve(
    program: Program,
    solver: Solver,
    *,
    seconds: float,
    gap: float = 0.0,
    absolute: float = 0.0,
    seed: int = 0,
    hint: Floats | None = None,
) -> Solved:
    """Solve within about `seconds`, to a relative or an absolute gap.

    A solver that fails answers UNKNOWN, never an exception.
    """
    if seconds <= 0:
        return UNKNOWN
    # solvers refuse bounds that cross
    if (program.row_low > program.row_high + 1e-9 * np.maximum(1.0, np.abs(program.row_high))).any():
        return replace(UNKNOWN, answer=Answer.INFEASIBLE, bound=-np.inf)
    scaled = _scaled(program)
    try:
        with _QUIET:
            result = core.solve(
                _model(scaled.program),
                parameters_pb2.SolverTypeProto.Value(f"SOLVER_TYPE_{solver}"),
                parameters_pb2.SolverInitializerProto(),
                _parameters(solver, seconds, gap, absolute / scaled.money, seed),
                _model_parameters(hint),
                None,
                callback_pb2.CallbackRegistrationProto(),
                None,
                None,
            )
    except (StatusNotOk, RuntimeError, ValueError):
        return UNKNOWN
    return _solved(result, program, scaled)


@dataclass(frozen=True, kw_only=True)
class _Scaled:
    """A program with entries near one, by powers of two, so that no digit is lost."""

    program: Program
    #: what the objective was divided by
    money: float
    #: what each row was divided by
    rows: Floats


def _scaled(program: Program) -> _Scaled:
    money = float(_near(np.max(np.abs(program.value), initial=0.0)))
    largest = np.zeros(program.row_low.size)
    owner = np.repeat(np.arange(largest.size), np.diff(program.starts))
    np.maximum.at(largest, owner, np.abs(program.coefficients))
    rows = _near(largest)
    return _Scaled(
        program=replace(
            program,
            value=program.value / money,
            coefficients=program.coefficients / rows[owner],
            row_low=program.row_low / rows,
            row_high=program.row_high / rows,
        ),
        money=money,
        rows=rows,
    )


def _near(size: Any) -> Any:
    return np.exp2(np.round(np.log2(np.where(np.asarray(size) > 0, size, 1.0))))


class _Quiet:
    """HiGHS prints debugging lines to the process's standard output, where the caller's JSON belongs.

    While any solver runs, in whatever thread, that output goes nowhere.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._kept = Lock(), 0, -1

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                sys.stdout.flush()
                self._kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 1)
                os.close(nowhere)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                os.dup2(self._kept, 1)
                os.close(self._kept)


_QUIET = _Quiet()
UNKNOWN = Solved(answer=Answer.UNKNOWN, x=None, objective=-np.inf, bound=np.inf, prices=None)


def _model(program: Program) -> Any:
    model = model_pb2.ModelProto()
    variables, rows = model.variables, model.linear_constraints
    variables.ids.extend(range(program.value.size))
    variables.lower_bounds.extend(program.low.tolist())
    variables.upper_bounds.extend(program.high.tolist())
    variables.integers.extend(program.whole.tolist())
    model.objective.maximize = True
    some = np.flatnonzero(program.value)
    model.objective.linear_coefficients.ids.extend(some.tolist())
    model.objective.linear_coefficients.values.extend(program.value[some].tolist())
    rows.ids.extend(range(program.row_low.size))
    rows.lower_bounds.extend(program.row_low.tolist())
    rows.upper_bounds.extend(program.row_high.tolist())
    matrix = model.linear_constraint_matrix
    matrix.row_ids.extend(np.repeat(np.arange(program.row_low.size), np.diff(program.starts)).tolist())
    matrix.column_ids.extend(program.columns.tolist())
    matrix.coefficients.extend(program.coefficients.tolist())
    return model


def _parameters(solver: Solver, seconds: float, gap: float, absolute: float, seed: int) -> Any:
    parameters = parameters_pb2.SolveParametersProto()
    parameters.time_limit.FromNanoseconds(int(min(seconds, 1e6) * 1e9))
    if solver is not Solver.PDLP:  # it draws nothing, and refuses a seed
        parameters.random_seed = seed % 2**31
    if solver in (Solver.HIGHS, Solver.CP_SAT):
        parameters.relative_gap_tolerance = gap
        parameters.absolute_gap_tolerance = absolute
    if solver is Solver.HIGHS:
        parameters.highs.CopyFrom(
            highs_pb2.HighsOptionsProto(double_options={"mip_feasibility_tolerance": 1e-7})
        )
    if solver is Solver.CP_SAT:
        parameters.threads = 2
    if solver is Solver.PDLP:
        ends = solvers_pb2.TerminationCriteria.SimpleOptimalityCriteria(
            eps_optimal_absolute=gap, eps_optimal_relative=gap
        )
        parameters.pdlp.num_threads = 2
        parameters.pdlp.termination_criteria.simple_optimality_criteria.CopyFrom(ends)
    return parameters


def _model_parameters(hint: Floats | None) -> Any:
    parameters = model_parameters_pb2.ModelSolveParametersProto()
    if hint is not None:
        values = parameters.solution_hints.add().variable_values
        values.ids.extend(range(hint.size))
        values.values.extend(hint.tolist())
    return parameters


def _solved(result: Any, program: Program, scaled: _Scaled) -> Solved:
    answer = _REASONS.get(result.termination.reason, Answer.UNKNOWN)
    either = result_pb2.TERMINATION_REASON_INFEASIBLE_OR_UNBOUNDED
    if result.termination.reason == either and _bounded(program):
        answer = Answer.INFEASIBLE
    x: Floats | None = None
    prices: Floats | None = None
    objective = -np.inf
    if answer in (Answer.OPTIMAL, Answer.FEASIBLE) and result.solutions:
        best = result.solutions[0]
        if best.HasField("primal_solution"):
            x = _dense(best.primal_solution.variable_values, program.value.size)
            objective = float(program.value @ x)
        if best.HasField("dual_solution"):
            prices = _dense(best.dual_solution.dual_values, program.row_low.size) * scaled.money / scaled.rows
    bound = float(result.termination.objective_bounds.dual_bound) * scaled.money
    if answer is Answer.OPTIMAL and x is None:
        answer = Answer.UNKNOWN
    return Solved(answer=answer, x=x, objective=objective, bound=bound, prices=prices)


def _bounded(program: Program) -> bool:
    """Whether no x, however far out, is worth more than any number."""
    farthest = np.where(program.value > 0, program.high, program.low)
    return bool(np.isfinite(farthest[program.value != 0]).all())


def _dense(sparse: Any, size: int) -> Floats:
    dense = np.zeros(size)
    dense[np.fromiter(sparse.ids, np.int64, len(sparse.ids))] = np.fromiter(
        sparse.values, np.float64, len(sparse.values)
    )
    return dense
