"""The tests, a folder for each room; what they share is imported as tests.ROOM.NAME."""
