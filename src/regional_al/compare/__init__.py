"""`regional-al compare`: a grid of runs (arms x seeds), and what their labels bought side by side.

`grid` says what is to be run, `running` runs it, `reading` collects it into one JSON, `curves` and
`tables` are the arithmetic, `figures`, `page` and `html` what a person sees.
"""

WITH_PARENT = "REGIONAL_AL_WITH_PARENT"
"""Environment variable of a run: the id of the process that it is to end with."""
