"""Videos from the web: sources to search, and the retrieval of what shows a class (Hong et al. 2017, section 4)."""
