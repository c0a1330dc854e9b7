"""The names of a traced program: axes, widths, steps and parameters, no two alike."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass, field, replace
from fractions import Fraction

from tp_compiler.torch.dimensions import Dimension, Leaf, Sizes, ratio

#: Names of axes, in the order in which they are given away.
_INDICES = tuple("isdtkhcruwabpqeflmovxyz")
#: Words of the language that a name must not be.
_WORDS = frozenset(
    """
    clt E I T n step inf abs acos asin atan cos cosh cumsum dpow elu erf erfc exp gelu gelu_tanh grad hadamard inv
    jvp log logdet logsumexp max mean min mish ntk pow prod relu relu6 residual selu shift sigmoid sign silu sin
    sinh softmax softplus solve sqrt square stop sum swiglu tan tanh unfold vjp where delta layernorm rmsnorm
    batchnorm dropout attention rotary gated axis data ket matrix scalar width output train for def fn import
    optimizer frozen msign matfun cholesky mse cross_entropy logistic init depth return minimize update with seed
    from key
    """.split()  # noqa: SIM905
)


@dataclass(eq=False)
class TextNames:
    """Names of axes, widths, steps and parameters: no two alike."""

    widths: Sizes
    taken: set[str] = field(default_factory=lambda: set(_WORDS) | set(_INDICES))
    axes: dict[Dimension, list[str]] = field(default_factory=dict)
    classes: dict[Fraction, str] = field(default_factory=dict)
    _free: list[str] = field(default_factory=lambda: list(_INDICES))

    def keep(self, names: set[str]) -> None:
        """Leaves short names to those who have them already."""
        self._free = [name for name in self._free if name not in names]
        self.taken = set(_WORDS) | set(self._free)

    def unique(self, wanted: str) -> str:
        base = re.sub(r"\W+", "_", wanted).strip("_") or "x"
        base = f"x{base}" if base[0].isdigit() else base
        name, k = base, 1
        while name in self.taken:
            k += 1
            name = f"{base}_{k}"
        self.taken.add(name)
        return name

    def claim(self, name: str) -> bool:
        """Takes a name that a user has chosen; False if something is called so."""
        if name in self.taken and name not in self._free:
            return False
        self.taken.add(name)
        self._free = [other for other in self._free if other != name]
        return True

    def copy(self) -> TextNames:
        """For names that are added to the program later."""
        axes = {dimension: list(names) for dimension, names in self.axes.items()}
        return replace(self, taken=set(self.taken), axes=axes, _free=list(self._free))

    def of_weight(self, full: str) -> str:
        short = re.sub(r"\W+", "_", full.removesuffix(".weight"))
        return self.unique(full if short in self.taken else short)

    def of_step(self, path: str, label: str) -> str:
        """A name for what an operation of a module computes."""
        short = re.sub(r"^(scaled_dot_product|native)_|_legit.*$", "", label)
        return self.unique(f"{path}_{short}" if path else f"{short}_out")

    def index(self, place: Leaf, used: set[str]) -> str:
        """An index of the axis of a place that the statement has not used yet."""
        known = self.axes.setdefault(place.dimension, [])
        for name in known:
            if name not in used:
                used.add(name)
                return name
        name = self.unique(f"{known[0]}{len(known) + 1}") if known else self.letter()
        known.append(name)
        used.add(name)
        return name

    def letter(self, wanted: str = "") -> str:
        """A name of an axis that has not been given away."""
        if wanted in self._free:
            self._free.remove(wanted)
            return wanted
        return self._free.pop(0) if self._free else self.unique("axis1")

    def width(self, place: Leaf) -> str:
        size = ratio(place.dimension, self.widths)
        if size == 1:
            return "n"
        if size not in self.classes:
            self.classes[size] = self.unique(f"m{size}".replace("/", "_"))
        return self.classes[size]


def unwrapped(name: str, known: Container[str]) -> str:
    """A parameter's name without what wrappers put in front: DistributedDataParallel and torch.compile."""
    if name in known:
        return name
    parts = enumerate(name.split("."))
    return ".".join(p for k, p in parts if p != "_orig_mod" and (p, k) != ("module", 0))
