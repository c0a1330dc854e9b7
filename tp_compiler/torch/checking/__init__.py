"""A coordinate check: modules of several widths are trained, and what is measured is compared with what muP wants."""
