"""Notes: cleaned, cut into segments, turned into vectors."""
