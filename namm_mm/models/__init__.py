"""Find a model by name, and say where its files come from."""
