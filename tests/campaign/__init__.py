"""``make campaign``: measure again how much goes wrong when much is tried.

Each module is one trial: it tries something many times and says what went wrong. ``python -m
campaign`` runs all of them, prints a table, and exits 1 if anything went wrong.
"""
