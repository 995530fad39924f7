"""A zoo of small language models that need their memory, to evolve NAMMs that transfer."""
