"""Whether two networks compute the same: run, compared layer by layer, diagnosed, reported."""
