"""What people would run instead of samplerd, on the same work: `peer.py` installs, starts and checks each.

`NAME_server.py` and `NAME_client.py` run in that peer's own virtual environment and import nothing of this project.
"""
