"""Many cells to records: protocols, the run folder, and who runs which cell."""
