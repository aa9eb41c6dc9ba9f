"""Loss detection, congestion control and pacing: what has left, what arrived, how much more may leave, and how large.

Rule: these modules count packets and bytes and hold what packets carried without looking inside; who resends what is
the business of the streams.
"""
