"""Where a generation's time goes: measured in processes of their own, reported, drawn."""
