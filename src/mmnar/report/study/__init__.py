"""The page of a study: its parts, and which of them a layout has."""
