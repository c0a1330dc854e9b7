"""Kets as formulas: values without samples."""
