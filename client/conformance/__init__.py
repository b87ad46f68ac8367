"""One suite for every client: requests with their exact replies, and what runs it in each language."""
