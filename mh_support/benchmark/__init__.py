"""Ways to train, generate and prepare, measured side by side on one machine: `recipes/benchmark.py`."""
