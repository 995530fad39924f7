"""Speech: questions about sound files, by the audio models of transformers."""
