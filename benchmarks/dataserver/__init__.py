"""What reading, indexing and searching a library cost."""
