"""M plain particles have the law of a network of width M: fresh hats are orthogonal to what the transpose has met."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kurtosis

import tp_compiler

WIDTH, COUNT = 64, 3000

PROGRAM = """
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
matrix W ~ N(0, 1)
|h> = W |u>
|g> = W^T tanh(|h> + |v>)
|k> = W tanh(|g>) + W^T |g>
output norm  = <g|g>
output chain = <W^T W u|W^T W u>
output last  = <k|k>
"""

TRAINED = """
width m = 2
axis i : 2
ket |u[i]> ~ N(0, 1)
ket |v> : m ~ N(0, 1)
matrix W : m x n ~ N(0, 1.5)
train steps = 4 {
    |x[i]> = tanh(|u[i]>)
    |h[i]> = W |x[i]>
    f[i] = <v|tanh(h[i])>
    loss = mean[i]((f[i] - 1)^2)
    minimize loss
    update |u>, W, |v> with SGD(lr = 0.3)
}
|y[i]> = tanh(W tanh(|u[i]>)) + |v>
output gap[i] = 2 * <y[i]|W tanh(u[i])> - <W^T y[i]|tanh(u[i])>
"""


@pytest.mark.parametrize("method", ["qmc", "mc"])
def test_a_matrix_and_its_transpose_agree_in_every_run(method):
    """<y|W|x> = <Wᵀy|x>/ρ, of the trained matrix too."""
    found = tp_compiler.limit(TRAINED, method=method, samples=64, replicates=8).outputs["gap"].replicates
    for level in found.levels:
        np.testing.assert_allclose(level, 0.0, atol=1e-12)


def test_brackets_have_the_law_that_networks_have():
    """Means and variances; without the projection n Var of `last` is 12.2, not 9.9."""
    limit = tp_compiler.limit(PROGRAM, method="mc", samples=WIDTH, replicates=COUNT, seed=1)
    networks = tp_compiler.simulate(PROGRAM, width=WIDTH, seeds=COUNT)
    for name in limit.outputs:
        ours, theirs = (run.outputs[name].replicates.levels[-1] for run in (limit, networks))
        error = np.hypot(ours.std(), theirs.std()) / np.sqrt(COUNT)
        assert abs(ours.mean() - theirs.mean()) < 4 * error, name
        log_error = np.sqrt((4 + kurtosis(ours) + kurtosis(theirs)) / COUNT)  # of the logarithm of a ratio of variances
        assert abs(np.log(ours.var() / theirs.var())) < 4 * log_error, name
