"""Files that contain a whole network: written, compared with the network, cached and run."""
