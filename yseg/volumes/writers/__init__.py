"""One module for each family of formats: a volume [z, y, x] is written as a folder or a file."""
