"""What can be read out of frozen embeddings."""
