"""Registration of one pair of scans: lung alignment, refinement of a stationary velocity field, transforms."""
