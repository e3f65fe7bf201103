"""The recipe: stages from a corpus to a report, each run only when what it reads has changed.

`todm.recipe.stages` declares the stages, `todm.recipe.runner` runs them, `todm.recipe.marks` records what a
finished stage has read.
"""
