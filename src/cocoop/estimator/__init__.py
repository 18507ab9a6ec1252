"""From a person's own images to a classifier: the commands fit, predict, evaluate, explain and features."""
