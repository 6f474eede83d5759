"""Where parameters come from: a local file, an archive, GluonCV's cache and bucket, random numbers."""
