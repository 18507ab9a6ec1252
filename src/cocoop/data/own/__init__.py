"""A person's own images: folders, tables and data sets of the Hub."""
