"""The intermediate representation: instructions, and analyses of them."""

import tp_compiler.ir.pickling  # noqa: F401  (tells pickle how programs are written)
