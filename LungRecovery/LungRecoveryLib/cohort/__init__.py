"""Many patients at once: a manifest in, a study for each patient, one table and a group report out."""
