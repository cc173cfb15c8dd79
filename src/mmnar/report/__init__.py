"""One offline HTML file and its twin result.json: everything a reader needs to judge a study."""
