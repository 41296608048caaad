"""One module for each kind of check; a check is a generator of findings.

A check says nothing where all is well. It waits for nothing longer than the
seconds that its subject allows. `nti.appserver.doctor.table` lists them all.
"""
