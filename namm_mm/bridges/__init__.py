"""Bridges to other packages, each optional: nothing here is imported unless it is asked for."""
