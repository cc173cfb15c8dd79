"""Pure tensor functions shared by models."""
