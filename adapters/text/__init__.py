"""Text: causal language models."""
