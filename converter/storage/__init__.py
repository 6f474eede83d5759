"""Files and folders: atomic writes, temporary files, locks, snapshots of inputs."""
