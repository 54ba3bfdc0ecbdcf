"""Items that join or leave a catalogue whose identifiers are built."""
