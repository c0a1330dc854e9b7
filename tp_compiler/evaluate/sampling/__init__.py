"""Kets as particles: quasi-Monte Carlo with error bars."""
