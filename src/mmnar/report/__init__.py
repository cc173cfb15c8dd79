"""One offline HTML file a clinician could read."""
