"""The exact evaluator of linear networks, training loops included.

In a linear network under a linear optimizer every ket is a combination of independent Gaussians, at every step. A ket is
its row of coefficients, <x|y> a dot product, a learned matrix Σ c |y><x| the matrix Σ c y xᵀ of coefficients, and a
product with an initial matrix follows from what the matrix was applied to before (linear_matrices.py). No draw is made;
the errors are those of rounding. What is not linear is a `NotExact` with its reason, for the outputs that depend on it.

The instructions become closures once (linear_code.py), and a step of training is a walk along a list of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate import faults
from tp_compiler.evaluate.exact import Exact
from tp_compiler.evaluate.forms import NotExact
from tp_compiler.evaluate.linear_code import Code, Run
from tp_compiler.evaluate.linear_contraction import viewer
from tp_compiler.evaluate.linear_fold import Unbounded, folded
from tp_compiler.evaluate.linear_shapes import Shapes, indices
from tp_compiler.evaluate.linear_sparse import scatter, sparse_updates
from tp_compiler.evaluate.linear_states import DenseState, SparseState
from tp_compiler.evaluate.phases import needed
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Output, Program
from tp_compiler.ir.walk import dependencies, reachable

NOTE = "every ket in it is a combination of Gaussians, at every step"
