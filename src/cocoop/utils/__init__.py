"""What knows nothing of the field: files, text for people, registries, seeds."""
