"""Video: LLaVA models that see frames."""
