"""Simulation at finite width; shares no numeric code with the limit."""
