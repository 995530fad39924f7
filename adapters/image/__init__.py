"""Images: questions about one picture or several, by image-text-to-text models."""
