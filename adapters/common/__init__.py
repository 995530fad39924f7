"""What adapters share: loading, placement, context, greedy decoding, timing."""
