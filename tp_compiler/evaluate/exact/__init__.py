"""Kets as formulas: exact values without samples."""
