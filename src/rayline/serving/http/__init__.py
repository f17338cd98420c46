"""The HTTP of a replica: Serve's ingress and listener, our own lane for small predictions, and who may ask."""
