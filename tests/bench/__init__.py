"""Benches: figures that say whether a change made hwnas better or worse. `python -m tests.bench NAME`."""
