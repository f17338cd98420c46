"""From a table to numbers, in the order of the flow.

    sources/, opening                   where a table comes from, opened once
    joins/                              what is known of a key before a row's time: as-of joins and rolling windows,
                                        in memory and exchanged on Ray; feature tables, Feast's among them
    schemas/, leakage/                  what a table must look like, and how it may give the target away
    reading/, hashing                   columns as values of one kind, and rows as numbers of 64 bits
    checks/                             what breaks the schema, by policy; rows that are set aside
    splits/                             which part each row belongs to, and what each part is
    feature_set, observe, sketches/,    the declared features, and the one pass over the training rows
    state, reference, kernels, threads
    kinds/, recorded/, imported,        the fitted features: to a batch, and to one row in microseconds
    transform, scales
    pipeline, observed, matrices,       the step on Ray Data: look once, compute what has changed, write
    blocks, prepared, facts, variation
    online/                             the latest row of each key, for a live service
    packing, arrow_file, upgrade,       states as JSON and Arrow, of older formats, and what differs between two
    declared_sizes, changes
    request_rows, bridges/              rows as requests; scikit-learn's and Ray's fitted objects, both ways

``transform`` and what it imports need NumPy alone (PyArrow inside ``FittedFeatureSet.transform``), since a replica
loads them; ``pipeline`` is the part that runs on Ray.
"""
