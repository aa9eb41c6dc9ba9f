"""How much of a road STT takes: throughput over loss and distance, and shares of a link, all in virtual time.

Rule: nothing here reads a clock or a socket. A flow is a pair of ends without I/O, the road between them is the
laboratory's (``tests/sim``), and what comes out hangs on the seed alone: it is the same on every machine.
"""
