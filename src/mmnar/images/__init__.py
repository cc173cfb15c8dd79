"""Images and released image embeddings."""
