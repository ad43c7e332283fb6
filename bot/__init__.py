"""People talk here: one assistant, several channels."""
