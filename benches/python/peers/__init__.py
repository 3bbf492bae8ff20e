"""The peers: each module has BENCHES, functions that do n operations and return the seconds it took.

Its `park(n)`, where there is one, parks n fibers, each three Python calls deep, and returns when all
are parked.
"""
