"""Credentials that were revoked: what every service knows of them, and how it learns of them.

Escalation owns credentials. A revocation is a row in its database, and goes to the other services on a stream of its
own, into a table of each. Every process keeps all that still matter in memory, so that a request asks nobody.
"""
