"""What serving a request costs, against gunicorn's own gevent worker."""
