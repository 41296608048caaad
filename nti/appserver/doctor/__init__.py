"""`nti-appserver doctor`: what is wrong with a site that runs, or is to run, and the mend.

`checks` has a module for each kind of check, `table` lists them, `command` is
the command line, `rehearsal` the process in which the site's code is loaded as
a worker would. What they have in common is in `finding` (what a check says),
`subject` (what it looks at) and `client` (how it asks a URL).

Runs in processes of its own, none of which serves; nothing of the site is
changed. Imports nothing here: the rehearsal must not load what is unsafe before
patching.
"""
