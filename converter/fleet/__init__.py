"""Many checkpoints: what is in a bucket, what is already converted, and processes that convert the rest."""
