"""Finished replicates on disk: one file for one process, a folder for many."""
