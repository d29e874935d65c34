"""Parts of the training of `vlmp-tiny`."""
