"""What outlives the process: users, their tokens' digests, the request log.

Belongs here: the schema, its migrations, and every SQL statement of the product.
Does not belong here: who may do what, HTTP, when rows are written (`sinks`).
"""
