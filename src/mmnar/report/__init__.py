"""Contents of the three pages: the report of runs, the atlas of a store, the page of a study."""
