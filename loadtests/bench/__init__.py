"""Benchmarks of the library itself against its alternatives, both sides in one run; see `make bench`."""
