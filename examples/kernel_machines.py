"""The tangent kernel of a relu network in kernel machines of other libraries: scikit-learn and GPyTorch.

`tpc.kernel` compiles a program once; the result is called with arrays, like `kernel_fn` of neural-tangents. Run it as a
script: it fits a sine with each library that is installed.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

import tp_compiler as tpc

PROGRAM = """
axis i, j
axis d
data xi[i,d]
ket    |u[d]> ~ N(0, 1)
ket    |b>    ~ N(0, 1)
matrix W      ~ N(0, 2)
ket    |v>    ~ N(0, 1)

|x[i]> = relu(W relu(sum[d](xi[i,d] |u[d]>) + |b>))
f[i]   = <v|x[i]>
output ntk[i,j] = ntk(f[i], f[j])
"""
NOISE = 0.01  # the variance of the noise of the labels
KERNEL = tpc.kernel(PROGRAM, "ntk")


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points and labels to fit, and points to predict at."""
    points = np.linspace(-2, 2, 12)[:, None]
    return points, np.sin(2 * points[:, 0]), np.linspace(-2.5, 2.5, 9)[:, None]


# scikit-learn --------------------------------------------------------------------------------------------------
def gaussian_process(kernel: Any = KERNEL) -> Any:
    """A GaussianProcessRegressor. The kernel may also be part of sums and products, with parameters to fit."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Kernel

    class LimitKernel(Kernel):
        """A limit as a kernel of scikit-learn; it has no parameters."""

        def __init__(self, function: Any):
            self.function = function

        def __call__(self, X: Any, Y: Any = None, eval_gradient: bool = False) -> Any:
            K = self.function(X, Y)
            return (K, np.empty((*K.shape, 0))) if eval_gradient else K

        def diag(self, X: Any) -> Any:
            return self.function.diagonal(X)

        def is_stationary(self) -> bool:
            return False

    return GaussianProcessRegressor(LimitKernel(kernel), alpha=NOISE)


def kernel_ridge() -> Any:
    """KernelRidge takes the matrices themselves: `fit(KERNEL(X), y)`, `predict(KERNEL(X_new, X))`."""
    from sklearn.kernel_ridge import KernelRidge

    return KernelRidge(alpha=NOISE, kernel="precomputed")


# GPyTorch ------------------------------------------------------------------------------------------------------
def exact_gp(points: np.ndarray, labels: np.ndarray, kernel: Any = KERNEL) -> tuple[Any, Any]:
    """An exact Gaussian process of GPyTorch, and its likelihood. Parameters around the kernel (a scale) can be trained."""
    import gpytorch
    import torch

    class LimitKernel(gpytorch.kernels.Kernel):
        """A limit as a kernel of GPyTorch; it has no parameters, and no gradient by the points."""

        def forward(self, x1: Any, x2: Any, diag: bool = False, **params: Any) -> Any:
            same = x1.shape == x2.shape and bool((x1 == x2).all())
            if diag and same:
                value = kernel.diagonal(x1)
            else:
                value = kernel(x1, None if same else x2)
                value = np.diag(value) if diag else value
            return torch.as_tensor(value, dtype=x1.dtype, device=x1.device)

    class Model(gpytorch.models.ExactGP):
        def __init__(self, likelihood: Any):
            super().__init__(torch.as_tensor(points), torch.as_tensor(labels), likelihood)
            self.mean_module = gpytorch.means.ZeroMean()
            self.covar_module = gpytorch.kernels.ScaleKernel(LimitKernel())

        def forward(self, x: Any) -> Any:
            return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
    model = Model(likelihood).double()
    likelihood.noise, model.covar_module.outputscale = NOISE, 1.0
    return model, likelihood


def rounded(values: np.ndarray) -> np.ndarray:
    return np.round(values, 3) + 0.0  # no -0


def main() -> None:
    points, labels, new = data()
    if find_spec("sklearn"):
        process = gaussian_process().fit(points, labels)
        print("scikit-learn, Gaussian process: ", rounded(process.predict(new)))
        ridge = kernel_ridge().fit(KERNEL(points), labels)
        print("scikit-learn, ridge regression: ", rounded(ridge.predict(KERNEL(new, points))))
    if find_spec("gpytorch"):
        import torch

        model, likelihood = exact_gp(points, labels)
        model.eval(), likelihood.eval()
        with torch.no_grad():
            found = model(torch.as_tensor(new)).mean
        print("GPyTorch, Gaussian process:     ", rounded(found.numpy()))


if __name__ == "__main__":
    main()
