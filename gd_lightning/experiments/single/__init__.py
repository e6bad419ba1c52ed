"""A run in Python: trained, loaded, used and shown."""
