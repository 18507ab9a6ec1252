"""The families of image-text models: one file each, found by walking this folder."""
