"""Finite width, sharing no numeric code with the limit."""
