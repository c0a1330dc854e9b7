"""Evaluation of the infinite-width limit."""
