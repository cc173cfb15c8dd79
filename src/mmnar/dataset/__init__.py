"""PastEvents → arrays → the store, and folds of it."""
