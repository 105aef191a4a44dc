"""The expert cache: which experts stay in memory under a budget, and which are loaded ahead."""
