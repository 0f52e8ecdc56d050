"""Snapshots of the catalog on the nodes, and the catalog made again from them.

`capture` reads what goes into a part, `parts` and `keys` seal it, `writing` stores it, `worker` does so all the time;
`survey` finds what nodes hold, `restore` makes a catalog of it. Spec: docs/formats/snapshot.md.
"""
