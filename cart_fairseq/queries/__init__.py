"""What a search is asked with, and what is stored of queries."""
