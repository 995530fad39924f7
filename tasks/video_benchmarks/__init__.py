"""What the published video benchmarks share: files, letters in replies, scores and their means."""
