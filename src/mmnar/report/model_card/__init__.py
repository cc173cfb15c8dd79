"""The card of one run: what it knows of itself, and blanks for what it cannot know."""
