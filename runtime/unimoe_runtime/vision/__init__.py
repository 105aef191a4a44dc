"""The vision tower and the video frames that it reads."""
