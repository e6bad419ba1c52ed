"""Numerical methods of the theory: eigenvalues, linear systems, roots, minima, subsamples (layer 2)."""
