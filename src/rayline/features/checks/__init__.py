"""What in a table breaks its schema, and what becomes of it.

``rules`` says which rows, ``counting`` and ``findings`` how many, ``validation`` judges by the policy, ``quarantine``
keeps what was set aside; ``checking`` is the look at a whole source that ``rayline validate`` takes.
"""
