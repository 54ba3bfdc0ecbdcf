"""Items and captions from a folder of media files."""
