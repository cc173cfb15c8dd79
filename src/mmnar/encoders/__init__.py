"""One encoder per modality kind: (B, F) → (B, D)."""
