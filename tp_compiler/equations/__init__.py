"""The infinite-width limit of a program as equations, in bra-ket notation; symbolic, never evaluated here.

Nothing is imported here: `tp_compiler.equations` is also a function, so that the room is loaded with the package.
"""
