"""From a method and image features to a trained prompt: classifier, loop, log, checkpoint and prompt file."""
