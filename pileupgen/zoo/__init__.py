"""The generators and translators of the field behind one interface, trained on the same events.

:mod:`~pileupgen.zoo.registry` finds a system by its name; :class:`~pileupgen.zoo.contract.System`
says what each of them can do.
"""
