"""Benchmarks: named cases, each with its peers in the same run. `python -m benchmarks NAME`."""
