"""Benchmarks: ``python -m benchmarks``. Figures are for ratios within one run; machines differ and drift."""
