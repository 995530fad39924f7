"""Builders of the bundled assets: what is in ``namm_mm/assets`` can be made from nothing."""
