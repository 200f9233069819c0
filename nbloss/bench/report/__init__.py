"""Results as text for the terminal, as tables for the pages and as pictures."""
