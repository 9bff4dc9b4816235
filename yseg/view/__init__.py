"""Volumes in a browser: what is shown, as which arrays it is served on this machine, and what Neuroglancer is told of it."""
