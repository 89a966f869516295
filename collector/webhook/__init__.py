"""The admission webhook: gives pods that ask for it a folder of the node for their cores."""
