"""A zoo of small language models that need their memory: what NAMMs that transfer are evolved on."""
