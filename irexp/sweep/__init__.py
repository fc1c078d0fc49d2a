"""A sweep as one graph: the plans of its jobs merged, each artifact made once, by several processes or by a cluster."""
