"""Campaigns: many programs through many commands. Each module runs alone, `python -m tests.campaigns.NAME --help`."""
