"""The half of a run that lives inside the user's interpreter.

Pure Python on the standard library and IPython. The server starts `zygote.main` once per place
(warm) or once per run (cold); both fork a child per run, which `child` leads to its program:

    zygote ─┬─ fork ── seed ── fork ── first process of each run's namespace
            └─ fork ── worker (the user's program), in that namespace

`channel` speaks frames with the server, `session` executes cells, `program` scripts and wheels,
`dbutils` and its neighbours are what programs see.
"""
