"""Search by the dense head: vectors of queries and items, and masses of prefixes."""
