"""What needs the operating system or a third-party library, but no event loop.

Rule: everything here is synchronous and never waits. The adapters import it; it imports ``stt_core`` and nothing above.
"""
