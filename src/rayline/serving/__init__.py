"""A live endpoint: the traffic plan, the replicas that choose a version inside, and the door to Ray Serve.

service, starting, names            the door to Ray Serve: deployed, found again, changed, observed
replica, host, load, scaling        one replica and the versions that it holds; how many replicas there should be
http/, wire/                        a request on its way in, and an answer on its way out
traffic/                            who answers: the plan, its keeper, and those that follow it
versions/                           the answer: one version, here or in a process of its own
records/                            what is kept of it: counts, captures, truth, mirror and drift
"""
