"""One file per method. Models never import each other."""
