"""What several adapters use: loading, placement, context length, greedy decoding, timing."""
