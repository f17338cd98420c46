"""The same run as a Ray job: packed, sent to the cluster's job server, followed, and resumed.

Nothing here needs Ray on this machine: all of it speaks HTTP with the job server.
"""
