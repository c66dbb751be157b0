"""`regional-al compare`: run a grid of arms x seeds and report what their labels bought.

`plan` says what to run, `runner` runs it (`state`: what the grid's folder remembers), `results`
reads the runs and their archive, `stats` and `efficiency` compute on their `curves`, `tables` and
`figures` show that, `html` and `markdown` write it.
"""

WITH_PARENT = "REGIONAL_AL_WITH_PARENT"
"""Environment variable of a run: the id of the process that it ends with."""
