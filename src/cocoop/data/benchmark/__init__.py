"""The benchmark's datasets on disk: where they lie, what they must hold, and what is missing."""
