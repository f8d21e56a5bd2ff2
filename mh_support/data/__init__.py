"""Dialogues on their way from a file to the splits: sources, cleaning, privacy, splitting, report."""
