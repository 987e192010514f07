"""The entry of a pod: its folder on the claim, the rendezvous with the other pods, its termination message."""
