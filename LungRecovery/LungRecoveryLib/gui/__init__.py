"""The parts of the Slicer panel, one module for each subject; `panel.Panel` puts them together.

What runs without Qt stays without it: `inputs` turns nodes into files, `messages` turns errors into sentences. Nothing
here imports torch, and nothing but the standard library is imported before it is needed, so that the panel opens at
once.
"""
