"""The half of a run that lives inside the user's interpreter.

Pure Python on the standard library and IPython. The server starts `zygote.main` once per place
(warm) or once per run (cold); both fork a child that serves one run:

    zygote ── fork ── init (pid 1 of the run) ── fork ── worker (the user's program)

`channel` speaks frames with the server, `session` executes cells, `program` scripts and wheels,
`dbutils` and its neighbours are what programs see.
"""
