"""The RPCs: their handlers, and what every call goes through."""
