"""What everything else builds on: files, errors, progress, processes."""
