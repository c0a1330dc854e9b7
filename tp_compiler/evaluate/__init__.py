"""Infinite width."""
