"""What changed between the dates: volume (Jacobian), density, similarity, quality of the match, scores, trajectory.

Images are `SimpleITK.Image`, masks are bool arrays (z, y, x) by region on the same grid, results are dicts of plain
floats, ready for JSON; None stands for what is undefined.
"""
