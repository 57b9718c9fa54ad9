"""Measurements of the product as its user has it: the installed commands, a real cluster, real QEMU processes.

`make bench` runs them all and prints a table; docs/benchmarks.md says how each number is taken.
"""
