"""Videos, data sets and transforms."""
