"""Builders of the bundled assets: everything in ``namm_mm/assets`` can be made again."""
