"""Training steps timed side by side: ``python -m benchmarks --help``."""
