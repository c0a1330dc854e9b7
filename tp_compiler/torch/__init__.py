"""From PyTorch: a module, traced at two widths, as a program (extra `[torch]`)."""

from importlib.util import find_spec

if find_spec("torch") is None:  # PyTorch itself: imports are absolute
    raise ImportError("tp_compiler.torch needs PyTorch: pip install 'tp_compiler[torch]'")

from tp_compiler.scale.coordinates import CoordCheck
from tp_compiler.torch.checking.coordinate_check import coord_check
from tp_compiler.torch.record import Parameter, Traced
from tp_compiler.torch.scaling import TorchScaling
from tp_compiler.torch.tracing import trace

__all__ = ["CoordCheck", "Parameter", "TorchScaling", "Traced", "coord_check", "trace"]
