"""A page on this machine to label images, to train on them, to look, to correct, and to take it away."""
