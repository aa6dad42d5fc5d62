"""Measures this project beside its peers on one machine: ``python -m bench``, see docs/performance.md."""
