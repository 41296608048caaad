"""What operations cost a request."""
