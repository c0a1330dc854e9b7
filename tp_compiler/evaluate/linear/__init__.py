"""Linear networks as coefficients, training loops included."""
