"""The composed speech model: Whisper's encoder, a trained projector, SmolLM2."""
