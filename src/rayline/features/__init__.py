"""From a table to numbers, in the order of the flow.

    sources/, opening                   where a table comes from, opened once
    history, join, windows, tables,     what is known of a key before a row's time: as-of joins and rolling windows,
    rolling, keys, exchange, feast      in memory and exchanged on Ray; feature tables, Feast's among them
    schema, schema_file, schema_text,   what a table must look like, as a value and as a file that people edit
    inference, leakage*                 what a table seems to be, and how it may give the target away
    validation, rules, counting,        what breaks the schema, by policy; rows that are set aside; the schema's changes
    findings, quarantine, twins, swaps,
    checking, proposal
    split, strata, sizes, hashing,      which part each row belongs to, and what each part is
    identity
    feature_set, observe, sketches/,    the declared features, and the one pass over the training rows
    state, reference, kernels, threads
    kinds/, recorded/, imported,        the fitted features: to a batch, and to one row in microseconds
    transform, batch, values,
    arrow_values, tensor_values,
    canonical, scales
    pipeline, divide, parts, observed,  the step on Ray Data: look once, compute what has changed, write
    matrices, blocks, prepared, facts
    online/                             the latest row of each key, for a live service
    packing, upgrade, changes,          states as JSON and Arrow, of older formats, and what differs between two
    request_rows, bridges/              rows as requests; scikit-learn's and Ray's fitted objects, both ways

``transform`` and what it imports need NumPy alone (PyArrow inside ``FittedFeatureSet.transform``), since a replica
loads them; ``pipeline`` is the part that runs on Ray.
"""
