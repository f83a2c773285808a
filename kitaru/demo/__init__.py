"""The demonstration: a licence audit of the packages installed here, killed in the middle, and resumed.

``audit`` is the flow, written as a user would write one: it uses the public names alone. ``licences`` and ``rules``
are what its steps know; ``worker`` is the process that is killed; ``show`` is the process that kills it;
``approval`` is the other show, of a run that waits for a person.
"""
