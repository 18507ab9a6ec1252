"""A page on this machine to label images, to train on them, to look and correct, and to take the model away."""
