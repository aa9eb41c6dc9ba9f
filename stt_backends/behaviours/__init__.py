"""What every stack must do, as a list that runs: the behaviours of streams and of nodes, whichever event loop is under.

Rule: the one place below the adapters with ``await`` in it. What is awaited was given: the streams and nodes under
test, and the few calls of a :class:`~stt_backends.behaviours.stack.Stack`; no event loop is imported. The adapters
publish it, each for its own kind, as ``stt_anyio.testing`` and ``stt_trio.testing``.
"""
