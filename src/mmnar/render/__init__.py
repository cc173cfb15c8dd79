"""What draws: blocks, and the HTML, Markdown and terminal text made of them; charts; how numbers are worded.

Every page is a `Page` of `Section`s of blocks. It knows results of an evaluation, and no run, study or data set.
"""
