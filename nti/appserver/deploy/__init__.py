"""Configurations for the systems around the server, and a doctor for the site they make.

What may live in this room: one template for each system (`templates/`), the
options they take (`options.py`), the catalogue of systems and variants
(`systems.py`), rendering (`render.py`), the commands `nti-appserver config`
and `nti-appserver doctor`. Nothing here is on a request's way but
`doctor/probe.py`, which answers the doctor alone. Importing this package
imports nothing else.
"""
