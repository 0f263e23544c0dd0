"""The browser viewer: a study shown on Slicer's own slice views by trame-slicer, without Slicer.

`checks` says in a sentence what is missing, before anything is done that would crash; `serve.serve` runs the server: it
listens before what draws is imported and the study is read. What is shown comes from `scene` and `results` alone;
nothing is measured here. The parts:

access      who may talk to the server          downloads   the study's files, by name and never by path
analysis    an analysis started from the page   views       the slice views and what the pointer does in them
content     the study's words and numbers       charts      the scene's charts as plotly figures
readout     the values under a point            page        what the page asks for, done to the scene
state       what the page knows at first        windows     windows for the CT

The page itself is `static/page.html`, a Vue template over the state that `page` and `views` keep. State is shared by
all tabs: one user.
"""
