"""Configurations for the systems around the server.

What may live in this room: one template for each system (`templates/`), the
options they take (`options.py`), the catalogue of systems and variants
(`systems.py`), rendering (`render.py`), the command `nti-appserver config`.
Nothing here is on a request's way. Importing this package imports nothing else.
"""
