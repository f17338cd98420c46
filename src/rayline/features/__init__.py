"""From a table to numbers: schema, fitted state, the batch path on Ray Data and the row path of a service.

``transform`` and what it imports need NumPy alone (PyArrow inside ``FittedFeatureSet.transform``), since a replica
loads them; ``pipeline`` is the part that runs on Ray.
"""
