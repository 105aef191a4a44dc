"""Where a generation's time goes: measured in separate processes, reported and plotted."""
