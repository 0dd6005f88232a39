"""`make faults-hostile`: callers who mean harm, each beside a sender who does not (__main__.py)."""
