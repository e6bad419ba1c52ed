"""Runs side by side: trained, read, put into a table, judged and reported (layer 6)."""
