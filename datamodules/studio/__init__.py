"""The actors, textures and camera of the synthetic videos."""
