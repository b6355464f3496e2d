"""From frames to labels, in numpy: evidence, superpixels, refinement, selection, and the store of versions."""
