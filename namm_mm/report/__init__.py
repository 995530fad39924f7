"""Reports, made from records alone: one block model, several renderings with the same numbers."""
