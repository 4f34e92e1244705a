"""Piecewise-linear networks in place of those with smooth units, and the proof of their error.

===============  ==================================================================
``curves``       continuous curves of few pieces near a smooth unit
``units``        how far they are from it, over any interval
``proof``        how far two networks are apart over boxes of inputs
``refine``       the same over one box, which is halved
``network``      the network with curves, which carries the true one and the proof
``approximate``  the shares of the accuracy, and the network that has it
===============  ==================================================================
"""
