"""Masks of the chest: lungs with their sides, regions of the lungs, pulmonary vessels."""
