"""`trucban up` as a front process: each service runs in a process of its own behind it.

Nothing is imported here: a service's process needs `orders` only.
"""
